"""The off-peak window as callers see it."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from scheduler.store import schema as s
from scheduler.windows import read_windows
from tests.support.fleet import ERROR
from tests.support.http import Site, check_problem, picture, until

DATA_URI = "data:image/png;base64," + base64.b64encode(picture()).decode()
ALWAYS = "* * * * *"
_FAR = datetime.now(UTC) + timedelta(days=150)
CLOSED = f"* 22 1 {_FAR.month} *"  # it opens in four months or more


@pytest.fixture
async def closed(opened: Any) -> AsyncIterator[Site]:
    async with opened(off_peak=CLOSED, off_peak_time_zone="Europe/Berlin") as site:
        yield site


def opens_at() -> str:
    windows = read_windows(CLOSED, "Europe/Berlin")
    assert windows is not None
    opening = windows.next_open(datetime.now(UTC).timestamp())
    return datetime.fromtimestamp(opening, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


async def test_a_job_of_the_window_says_what_it_waits_for(closed: Site) -> None:
    job = await closed.submit(window="off_peak")

    assert (job["window"], job["not_before"], job["status"]) == ("off_peak", opens_at(), "queued")
    assert job["queue"]["wait"] == {
        "code": "window",
        "details": {"window": "off_peak", "until_at": opens_at(), "time_zone": "Europe/Berlin"},
        "clears_when": "the window opens",
    }
    assert job["queue"]["wait_reason"].endswith("-01 22:00 (Europe/Berlin)")
    assert job["queue"]["expected_start"]["p50"] == opens_at()
    assert closed.gpu.claim() is None
    queue = (await closed.client.get("/v1/admin/queue")).json()
    assert (queue["ready"], queue["deferred"], queue["oldest_wait_seconds"]) == (0, 1, None)


async def test_one_without_it_starts_at_any_time(closed: Site) -> None:
    body = {"prompt": "a fox", "image": DATA_URI, "window": None}
    answer = await closed.client.post("/v1/jobs", json=body)

    assert answer.status_code == 202
    assert (answer.json()["window"], answer.json()["not_before"]) == (None, None)
    assert closed.gpu.must_claim().job_id == answer.json()["id"]


async def test_while_it_is_open_it_starts_at_once(opened: Any) -> None:
    async with opened(off_peak=ALWAYS) as site:
        job = await site.submit(window="off_peak")

        assert (job["window"], job["not_before"], job["queue"]["wait"]["code"]) == ("off_peak", None, "dispatching")
        assert site.gpu.must_claim().job_id == job["id"]


async def test_where_no_window_is_set_none_can_be_asked_for(site: Site) -> None:
    answers = [
        await site.post(window="off_peak"),
        await site.client.post("/v1/estimates", json={"window": "off_peak"}),
    ]

    for answer in answers:
        check_problem(answer, 422, "invalid_parameter", "window must not be given: no off-peak window is set here")
    assert site.leftovers() == []


@pytest.mark.parametrize("value", ["night", "", "OFF_PEAK", "null"])
async def test_a_window_that_there_is_none_of_is_refused(closed: Site, value: str) -> None:
    body = check_problem(await closed.post(window=value), 422, "invalid_parameter", "off_peak")

    assert [error["field"] for error in body["errors"]] == ["window"]


@pytest.mark.parametrize("value", [1, True, ["off_peak"], {"off_peak": 1}])
async def test_a_window_in_json_is_a_text(closed: Site, value: object) -> None:
    body = check_problem(await closed.client.post("/v1/estimates", json={"window": value}), 422, "invalid_parameter")

    assert [error["field"] for error in body["errors"]] == ["window"]


async def test_a_deadline_before_the_window_opens_is_refused(closed: Site) -> None:
    deadline = (datetime.now(UTC) + timedelta(days=29)).isoformat()

    answer = await closed.post(window="off_peak", deadline=deadline)

    check_problem(answer, 422, "invalid_parameter", "deadline must be after the window opens, at", "(Europe/Berlin)")


async def test_an_estimate_tells_when_it_opens(closed: Site) -> None:
    answers = [await closed.client.post("/v1/estimates", json={"window": window}) for window in ("off_peak", None)]

    night, any_time = (answer.json() for answer in answers)
    assert (night["wait"]["code"], night["expected_start"]["p50"]) == ("window", opens_at())
    assert any_time["wait"]["code"] == "dispatching"


async def test_a_key_vouches_for_the_window(closed: Site) -> None:
    async def post(**fields: str) -> Any:
        data = {"prompt": "a fox", "seed": "1", **fields}
        files = {"image": ("a.png", picture())}
        return await closed.client.post("/v1/jobs", data=data, files=files, headers={"Idempotency-Key": "one"})

    first, again, other = await post(window="off_peak"), await post(window="off_peak"), await post()

    assert (first.status_code, again.json()["id"], again.json()["window"]) == (202, first.json()["id"], "off_peak")
    check_problem(other, 422, "idempotency_key_reused")


async def test_a_retry_waits_for_the_window_too(opened: Any) -> None:
    async with opened(off_peak=ALWAYS) as site:
        old = await site.submit(window="off_peak")
        site.scheduler.leases.fail(site.gpu.must_claim(), ERROR)

        answer = await site.client.post(f"/v1/jobs/{old['id']}/retry")

        assert (answer.status_code, answer.json()["window"]) == (202, "off_peak")


async def test_a_queue_that_is_full_of_them_makes_room_when_it_opens(opened: Any) -> None:
    """At the latest after ten minutes, however long that is."""
    async with opened(off_peak=CLOSED, max_queued=1) as site:
        await site.submit(window="off_peak")
        answer = await site.post()

        check_problem(answer, 429, "queue_full")
        assert answer.headers["retry-after"] == "600"


async def test_the_front_end_puts_off_what_its_end_has_caught(closed: Site) -> None:
    """By its own maintenance: nobody claims."""
    job = await closed.submit(window="off_peak")
    with closed.scheduler.database.write() as conn:
        conn.execute(update(s.job_states).values(not_before=0.0))

    await until(lambda: closed.stored(job["id"]).not_before > 0)
