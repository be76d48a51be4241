import asyncio

from tests.support.http import Site, check_problem, picture

KEY = {"Idempotency-Key": "order 17"}


async def test_saying_it_again_gives_the_same_job(site: Site) -> None:
    first = await site.post(headers=KEY)
    second = await site.post(headers=KEY)
    assert second.status_code == 202
    assert second.json()["id"] == first.json()["id"]
    assert second.json()["params"]["seed"] == first.json()["params"]["seed"]
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(stored_folders(site)) == 1


def stored_folders(site: Site) -> list[str]:
    return [path.name for path in (site.settings.data_dir / "blobs" / "jobs").iterdir()]


async def test_another_payload_is_refused(site: Site) -> None:
    first = await site.post(headers=KEY)
    for answer in (
        await site.post(headers=KEY, prompt="a blue fox"),
        await site.post(headers=KEY, seed="7"),
        await site.post(picture(size=(48, 64)), headers=KEY),
    ):
        check_problem(answer, 422, "idempotency_key_reused", "Idempotency-Key")
    assert stored_folders(site) == [first.json()["id"]]


async def test_a_replay_of_an_ended_job_shows_it_as_it_is(site: Site) -> None:
    first = await site.post(headers=KEY)
    site.finish(site.gpu.must_claim())
    second = await site.post(headers=KEY)
    assert (second.status_code, second.json()["status"]) == (202, "succeeded")
    assert second.json()["id"] == first.json()["id"]


async def test_a_replay_in_a_full_queue_is_no_new_job(opened: object) -> None:
    async with opened(max_queued=1) as site:  # type: ignore[operator]  # a fixture's partial
        first = await site.post(headers=KEY)
        again = await site.post(headers=KEY)
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


async def test_at_the_same_time_one_job_is_made(site: Site) -> None:
    answers = await asyncio.gather(*(site.post(headers=KEY) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert len(stored_folders(site)) == 1


async def test_other_keys_make_other_jobs(site: Site) -> None:
    first = await site.post(headers=KEY)
    second = await site.post(headers={"Idempotency-Key": "order 18"})
    assert first.json()["id"] != second.json()["id"]
