"""The operator's hand on the queue, and jobs that are to start later."""

import base64
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import insert, select

from scheduler.store import schema as s
from tests.support.databases import Clock
from tests.support.databases import clock as stopped_clock
from tests.support.fleet import GIB
from tests.support.http import Site, check_problem, picture, until

__all__ = ["stopped_clock"]  # a fixture

QUEUE = "/v1/admin/queue"
NO_JOB = "/v1/admin/jobs/job_01jd0000000000000000000000"


@pytest.fixture
def clock(stopped_clock: Clock) -> Clock:
    """Show the time of today: the sweeper takes files for nobody's that are of another day."""
    stopped_clock.seconds = float(int(time.time()))
    return stopped_clock


async def look(site: Site) -> dict[str, Any]:
    return dict((await site.client.get(QUEUE)).json())


async def pause(site: Site, **body: Any) -> Any:
    return await site.client.post(f"{QUEUE}/pause", json=body)


async def prioritize(site: Site, job_id: str, priority: Any) -> Any:
    return await site.client.patch(f"/v1/admin/jobs/{job_id}", json={"priority": priority})


def after(clock: Clock, **distance: float) -> str:
    return (datetime.fromtimestamp(clock.seconds, UTC) + timedelta(**distance)).isoformat().replace("+00:00", "Z")


def stored_as(text: str) -> str:
    """The same time as the service writes it: with microseconds."""
    return text.replace("Z", ".000000Z")


async def test_an_empty_queue(site: Site) -> None:
    assert await look(site) == {
        "object": "queue",
        "paused": False,
        "pause_reason": None,
        "paused_at": None,
        "paused_by": None,
        "ready": 0,
        "deferred": 0,
        "running": 0,
        "oldest_wait_seconds": None,
        "classes": [],
        "reservations": [],
    }


async def test_the_queue_shows_its_depth_by_class_and_what_is_kept(clock: Clock, site: Site) -> None:
    await site.submit()
    site.gpu.must_claim()
    small = await site.submit()
    clock.advance(7)
    large = await site.submit(width="768", height="768")
    await site.submit(width="768", height="768")
    await site.submit(not_before=after(clock, hours=1))
    values = {"gpu_id": "GPU-0", "reserved_bytes": 9 * GIB, "start_at": clock.seconds + 60, "made_at": clock.seconds}
    with site.scheduler.database.write() as conn:
        conn.execute(insert(s.reservations).values(job_id=large["id"], **values))
    found = await look(site)
    assert (found["ready"], found["deferred"], found["running"], found["oldest_wait_seconds"]) == (3, 1, 1, 7)
    first, second = found["classes"]
    assert (first["model"], first["plan"], first["jobs"], second["jobs"]) == (small["model"], "fp16", 1, 2)
    assert 0 <= first["up_to_bytes"] - site.stored(small["id"]).footprint.working_bytes < 64 * 2**20
    assert second["up_to_bytes"] > first["up_to_bytes"]
    assert found["reservations"] == [
        {
            "gpu": "GPU-0",
            "job": large["id"],
            "reserved_bytes": 9 * GIB,
            "start_at": stored_as(after(clock, seconds=60)),
            "made_at": stored_as(after(clock)),
        }
    ]


async def test_a_paused_queue_takes_jobs_and_starts_none(clock: Clock, site: Site) -> None:
    paused = (await pause(site, reason=" power cut at noon ")).json()
    assert (paused["paused"], paused["pause_reason"], paused["paused_by"]) == (True, "power cut at noon", "local")
    assert paused["paused_at"] == stored_as(after(clock))
    await site.submit()
    assert site.gpu.claim() is None
    assert (await site.client.get("/readyz")).status_code == 200
    resumed = (await site.client.post(f"{QUEUE}/resume")).json()
    assert (resumed["paused"], resumed["pause_reason"], resumed["ready"]) == (False, None, 1)
    assert resumed == await look(site)
    site.gpu.must_claim()


async def test_pausing_and_resuming_again_are_no_errors(clock: Clock, site: Site) -> None:
    first = (await pause(site, reason="one")).json()
    clock.advance(5)
    second = (await pause(site, reason="x" * 500)).json()
    assert (second["paused_at"], second["pause_reason"]) == (first["paused_at"], "x" * 500)
    for _ in range(2):
        answer = await site.client.post(f"{QUEUE}/resume")
        assert (answer.status_code, answer.json()["paused"]) == (200, False)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, ("reason", "required")),
        ({"reason": ""}, ("reason", "empty")),
        ({"reason": " \n"}, ("reason", "empty")),
        ({"reason": "x" * 501}, ("reason", "500", "501")),
        ({"reason": "nul \x00"}, ("reason", "NUL")),
        ({"reason": 7}, ("reason",)),
        ({"reason": "a", "until": 5}, ("until", "not a known field")),
    ],
)
async def test_bad_pauses_are_refused(site: Site, body: dict[str, Any], words: tuple[str, ...]) -> None:
    problem = check_problem(await pause(site, **body), 422, "invalid_parameter", *words)
    assert problem["errors"][0]["field"] == words[0]
    assert (await look(site))["paused"] is False


async def test_a_priority_moves_a_queued_job(site: Site) -> None:
    first, second = await site.submit(), await site.submit()
    assert second["queue"]["position"] == 2
    moved = await prioritize(site, second["id"], 3)
    assert moved.status_code == 200
    assert (moved.json()["priority"], moved.json()["queue"]["position"]) == (3.0, 1)
    assert moved.json()["estimate"]["weight"] == pytest.approx(3 * first["estimate"]["weight"])
    assert site.gpu.must_claim().job_id == second["id"]


@pytest.mark.parametrize(
    ("priority", "words"),
    [
        (0, ("0.01", "100")),
        (-1, ("0.01", "100")),
        (100.5, ("100", "100.5")),
        (10**400, ()),
        ("2", ("number",)),
        (True, ("number",)),
        (None, ("number",)),
    ],
)
async def test_bad_priorities_are_refused(site: Site, priority: Any, words: tuple[str, ...]) -> None:
    job = await site.submit()
    answer = check_problem(await prioritize(site, job["id"], priority), 422, "invalid_parameter", "priority", *words)
    assert answer["errors"][0]["field"] == "priority"
    assert site.stored(job["id"]).priority == 1.0


async def test_numbers_that_json_does_not_have_and_other_fields_are_refused(site: Site) -> None:
    path, kind = f"/v1/admin/jobs/{(await site.submit())['id']}", {"Content-Type": "application/json"}
    for content in (b'{"priority": NaN}', b'{"priority": Infinity}', b'{"priority": 2, "prompt": "b"}', b"{}"):
        assert (await site.client.patch(path, content=content, headers=kind)).status_code == 422
    check_problem(await site.client.patch(path, content=b"{", headers=kind), 400, "malformed_request")


async def test_only_a_queued_jobs_priority_can_be_changed(site: Site) -> None:
    job = await site.submit()
    site.gpu.must_claim()
    check_problem(await prioritize(site, job["id"], 2), 409, "invalid_state", job["id"], "running")
    for path in (NO_JOB, "/v1/admin/jobs/x", f"/v1/admin/jobs/{'y' * 3000}"):
        check_problem(await site.client.patch(path, json={"priority": 2}), 404, "not_found", "no job")


async def test_other_sites_may_not_pause_or_move(site: Site) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    for method, path in (("POST", f"{QUEUE}/pause"), ("POST", f"{QUEUE}/resume"), ("PATCH", NO_JOB)):
        answer = await site.client.request(method, path, json={"reason": "a", "priority": 1}, headers=foreign)
        check_problem(answer, 403, "cross_site")
    assert (await look(site))["paused"] is False


async def test_a_job_does_not_start_before_its_time(clock: Clock, site: Site) -> None:
    job = await site.submit(not_before=after(clock, seconds=5))
    assert job["not_before"] == stored_as(after(clock, seconds=5))
    assert (await site.client.get(f"/v1/jobs/{job['id']}")).json()["not_before"] == job["not_before"]
    assert site.gpu.claim() is None
    assert (await look(site))["deferred"] == 1
    clock.advance(5)
    assert site.gpu.must_claim().job_id == job["id"]
    assert (await site.client.get(f"/v1/jobs/{job['id']}")).json()["not_before"] is None


@pytest.mark.parametrize("encoding", ["form", "json"])
async def test_a_time_in_the_past_means_now(clock: Clock, site: Site, encoding: str) -> None:
    for past in ("1971-01-01t00:00:00z", "0001-01-01T00:00:00+14:00", after(clock)):
        if encoding == "form":
            job = await site.submit(not_before=past)
        else:
            image = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
            answer = await site.client.post("/v1/jobs", json={"prompt": "a", "image": image, "not_before": past})
            job = answer.json()
        assert job["not_before"] is None
        assert site.stored(job["id"]).not_before == 0
        lease = site.gpu.must_claim()
        assert lease.job_id == job["id"]
        site.finish(lease)


async def test_a_time_may_have_an_offset_and_a_fraction(clock: Clock, site: Site) -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    text = datetime.fromtimestamp(clock.seconds + 60.25, india).isoformat(" ")
    assert text.endswith(".250000+05:30")
    assert (await site.submit(not_before=text))["not_before"] == after(clock, seconds=60.25)


@pytest.mark.parametrize(
    "text",
    [
        "2027-02-01T00:00:00",  # naive
        "2027-02-01",
        "tomorrow",
        "",
        "1800000060",
        "+2h",
        "2027-02-30T00:00:00Z",
        "2027-02-01T25:00:00Z",
        "2027-02-01T00:00:00+99:00",
        "2027-W05-1T00:00:00Z",
        "20270201T000000Z",
        "٢٠٢٧-02-01T00:00:00Z",
        "2027-02-01T00:00:00Z" + "0" * 5000,
    ],
)
async def test_what_is_no_time_with_an_offset_is_refused(site: Site, text: str) -> None:
    answer = check_problem(await site.post(not_before=text), 422, "invalid_parameter", "not_before", "RFC 3339")
    assert answer["errors"][0]["field"] == "not_before"
    assert site.leftovers() == []


async def test_a_time_must_be_text(site: Site) -> None:
    for value in (1_800_000_060, None, ["2027-02-01T00:00:00Z"]):
        body = {"prompt": "a", "image": f"data:image/png;base64,{base64.b64encode(picture()).decode()}"}
        answer = await site.client.post("/v1/jobs", json=body | {"not_before": value})
        assert answer.status_code == (202 if value is None else 422)


async def test_a_time_is_at_most_30_days_ahead(clock: Clock, site: Site) -> None:
    for text in (after(clock, days=30, seconds=1), "9999-12-31T23:59:59-23:59"):
        answer = check_problem(
            await site.post(not_before=text), 422, "invalid_parameter", "not_before", "30 days", text
        )
        assert answer["errors"][0]["field"] == "not_before"
    assert site.leftovers() == []
    await site.submit(not_before=after(clock, days=30))


async def test_an_idempotency_key_vouches_for_the_time_too(clock: Clock, site: Site) -> None:
    later, key = after(clock, seconds=5), {"Idempotency-Key": "once"}
    first = (await site.post(headers=key, not_before=later)).json()
    clock.advance(6)  # over by now, which makes no difference
    again = await site.post(headers=key, not_before=later)
    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (first["id"], "true")
    other = await site.post(headers=key, not_before=after(clock, hours=2))
    check_problem(other, 422, "idempotency_key_reused")


async def test_the_order_in_force_is_taken_over_at_start(opened: Any) -> None:
    async with opened(queue_order="fifo") as site:

        def order() -> str | None:
            with site.scheduler.database.read() as conn:
                return conn.execute(select(s.queue_state.c.order_signature)).scalar()

        await until(lambda: "fifo" in (order() or ""))
