from typing import Any

import pytest

from app import main
from scheduler.store import eventlog
from tests.support.http import Site, check_problem, until

EVENTS = "/v1/admin/events"


async def page(site: Site, **query: Any) -> dict[str, Any]:
    answer = await site.client.get(EVENTS, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def tell(site: Site, *types: str, subject: str = "job_a", at: float | None = None) -> None:
    with site.scheduler.database.write() as conn:
        for one in types:
            when = site.scheduler.database.now(conn) if at is None else at
            eventlog.append(conn, one, subject, when, actor="api", data={"reason": "new fans"})


async def test_a_job_tells_its_life(site: Site) -> None:
    start = (await page(site))["next_cursor"]
    job_id = await site.succeeded()
    found = await page(site, after=start)
    assert (found["object"], found["has_more"]) == ("list", False)
    assert [event["type"] for event in found["data"]] == ["job.queued", "job.running", "job.succeeded"]
    assert {event["subject"] for event in found["data"]} == {job_id}
    assert {event["object"] for event in found["data"]} == {"event"}
    assert found["next_cursor"] == str(found["data"][-1]["position"])


async def test_an_event_has_all_its_fields(site: Site) -> None:
    tell(site, "gpu.draining", subject="GPU-0", at=1_800_000_000.25)
    (event,) = (await page(site, subject="GPU-0"))["data"][-1:]
    event.pop("position")
    assert event == {
        "object": "event",
        "at": "2027-01-15T08:00:00.250000Z",
        "type": "gpu.draining",
        "subject": "GPU-0",
        "tenant": None,
        "actor": "api",
        "data": {"reason": "new fans"},
    }


async def test_pages_follow_each_other_and_the_log(site: Site) -> None:
    start = (await page(site))["next_cursor"]
    tell(site, "a", "b", "c", "d", "e")
    seen, after, more = "", start, True
    while more:
        found = await page(site, after=after, limit=2)
        assert len(found["data"]) <= 2
        seen += "".join(event["type"] for event in found["data"])
        after, more = found["next_cursor"], found["has_more"]
    assert seen == "abcde"
    empty = await page(site, after=after)
    assert (empty["data"], empty["has_more"], empty["next_cursor"]) == ([], False, after)
    tell(site, "f")
    assert [event["type"] for event in (await page(site, after=after))["data"]] == ["f"]


async def test_who_follows_one_job_moves_on_with_the_log(site: Site) -> None:
    tell(site, "a", subject="job_a")
    tell(site, *"bcd", subject="job_b")
    first = await page(site, subject="job_a", limit=1)
    assert [event["type"] for event in first["data"]] == ["a"]
    assert int(first["next_cursor"]) == site.scheduler.events.last(), "or retention would catch up with it"
    part = await page(site, subject="job_b", limit=1)
    assert (part["has_more"], part["next_cursor"]) == (True, str(part["data"][0]["position"]))
    rest = await page(site, subject="job_b", after=part["next_cursor"])
    assert "".join(event["type"] for event in rest["data"]) == "cd"


async def test_what_is_no_longer_kept_is_gone_and_says_from_where_to_go_on(site: Site) -> None:
    with site.scheduler.database.write() as conn:
        now = site.scheduler.database.now(conn)
    before = site.scheduler.events.last()
    tell(site, "a", "b", "c", at=now)
    with site.scheduler.database.write() as conn:
        eventlog.prune(conn, now + 1000)
    kept = site.scheduler.events.last()
    assert kept == before + 3

    problem = check_problem(await site.client.get(EVENTS, params={"after": 1}), 410, "events_expired", "no longer kept")
    assert problem["limit"] == kept - 1
    assert [event["type"] for event in (await page(site, after=problem["limit"]))["data"]] == ["c"]
    assert [event["type"] for event in (await page(site))["data"]] == ["c"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("after=-1", "after"),
        ("after=x", "after"),
        (f"after={2**64}", "after"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("subject=", "subject"),
        ("subject=%00", "subject"),
        ("subject=a%20b", "subject"),
    ],
)
async def test_bad_queries_are_refused(site: Site, query: str, field: str) -> None:
    check_problem(await site.client.get(f"{EVENTS}?{query}"), 422, "invalid_parameter", field)


async def test_old_jobs_and_events_are_pruned_beside_the_requests(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "_PRUNE_SECONDS", 0.01)
    async with opened(retention_days=1e-9) as site:
        await site.succeeded()
        await until(lambda: not site.scheduler.queue.list_jobs() and len(site.scheduler.events.read()) == 1)
        assert site.scheduler.blobs.folders("jobs") == []
