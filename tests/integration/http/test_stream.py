"""Server-sent events of a job, on the application itself."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from app import streams
from app.routes import watching
from scheduler.keys import Scope
from scheduler.records import JobError
from scheduler.wakeup import Wakeup
from tests.support.fleet import HALF_WAY
from tests.support.http import Site, check_problem, http_scope, until


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


@dataclass
class Reader:
    """A client that holds a stream open."""

    text: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    @property
    def events(self) -> list[dict[str, str]]:
        """What came, but for the comments."""
        blocks = [block for block in self.text.split("\n\n") if block and not block.startswith((":", "retry"))]
        return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]  # type: ignore[misc]

    @property
    def said(self) -> list[tuple[str, Any]]:
        """The events' names, each with the step or the state that it tells."""
        told = [(one["event"], json.loads(one["data"])) for one in self.events]
        return [(name, data["progress"]["step"] if name == "progress" else data["status"]) for name, data in told]

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.text += message["body"].decode()
            self.ended = not message.get("more_body", False)


@asynccontextmanager
async def reading(site: Site, job_id: str, **headers: str) -> AsyncIterator[Reader]:
    reader = Reader()
    scope = http_scope("GET", f"/v1/jobs/{job_id}/events", **({"host": "127.0.0.1:8000"} | headers))
    task = asyncio.create_task(site.app(scope, reader.receive, reader.send))
    try:
        await until(lambda: reader.status or task.done())
        yield reader
    finally:
        reader.gone.set()
        async with asyncio.timeout(10):
            await task


async def test_a_job_is_followed_from_the_queue_to_its_end(site: Site) -> None:
    job_id = (await site.submit())["id"]
    async with reading(site, job_id) as reader:
        assert reader.status == 200
        assert reader.headers["content-type"].startswith("text/event-stream")
        assert reader.headers["cache-control"] == "no-store"
        assert "content-length" not in reader.headers
        await until(lambda: len(reader.events) == 1)
        lease = site.gpu.must_claim()
        await until(lambda: len(reader.events) == 2)
        site.scheduler.leases.report(lease, HALF_WAY)
        site.scheduler.wakeup.notify(f"job:{job_id}")
        await until(lambda: len(reader.events) == 3)
        site.finish(lease)
        await until(lambda: reader.ended)
    assert reader.said == [("status", "queued"), ("status", "running"), ("progress", 25), ("status", "succeeded")]
    job = (await site.client.get(f"/v1/jobs/{job_id}")).json()
    assert json.loads(reader.events[-1]["data"]) == job, "the last event is the whole job"
    assert site.hub.waiting == 0


async def test_a_reader_that_was_cut_off_hears_only_what_is_newer(site: Site) -> None:
    job_id = (await site.submit())["id"]
    lease = site.gpu.must_claim()
    async with reading(site, job_id) as reader:
        await until(lambda: reader.events)
    last = reader.events[-1]["id"]
    async with reading(site, job_id, last_event_id=last) as again:
        await asyncio.sleep(0)
        assert again.events == []
        site.scheduler.leases.report(lease, HALF_WAY)
        site.scheduler.wakeup.notify(f"job:{job_id}")
        await until(lambda: again.events)
    assert again.said == [("progress", 25)]
    site.scheduler.leases.fail(lease, JobError("pipeline_error", "it broke"))
    async with reading(site, job_id, last_event_id=again.events[-1]["id"]) as late:
        await until(lambda: late.ended)
    assert late.said == [("status", "failed")], "the end, which it had missed"


async def test_who_comes_back_after_the_end_is_told_to_stay_away(site: Site) -> None:
    job_id = await site.succeeded()
    async with reading(site, job_id) as reader:
        await until(lambda: reader.ended)
    assert [event["event"] for event in reader.events] == ["status"]
    answer = await site.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": reader.events[0]["id"]})
    assert answer.status_code == 204


@pytest.mark.parametrize("last", ["", "x", "99-99", "1-1-1", "-1-0", "9" * 40])
async def test_an_id_that_is_none_of_ours_gets_the_job_as_it_is(site: Site, last: str) -> None:
    job_id = await site.succeeded()
    async with reading(site, job_id, last_event_id=last) as reader:
        await until(lambda: reader.ended)
    assert reader.said == [("status", "succeeded")]


async def test_silence_is_kept_alive(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "KEEP_ALIVE_SECONDS", 0.01)
    job_id = (await site.submit())["id"]
    async with reading(site, job_id) as reader:
        await until(lambda: reader.text.count(streams.KEEP_ALIVE.decode()) >= 3)
    assert len(reader.events) == 1


async def test_a_lost_wakeup_costs_a_second_and_no_event(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = (await site.submit())["id"]
    async with reading(site, job_id) as reader:
        await until(lambda: reader.events)
        monkeypatch.setattr(Wakeup, "notify", lambda *_: None)
        site.gpu.must_claim()
        await until(lambda: len(reader.events) == 2)
    assert reader.said[-1] == ("status", "running")


async def test_a_job_that_is_deleted_ends_its_streams(site: Site) -> None:
    job_id = (await site.submit())["id"]
    async with reading(site, job_id) as reader:
        await until(lambda: reader.events)
        site.scheduler.queue.cancel(job_id)
        site.scheduler.queue.delete(job_id)
        site.scheduler.wakeup.notify(f"job:{job_id}")
        await until(lambda: reader.ended)
    assert reader.said[0] == ("status", "queued")
    assert site.hub.waiting == 0


async def test_a_revoked_key_ends_its_streams(site: Site) -> None:
    job_id = (await site.submit())["id"]
    made, secret = site.scheduler.keys.create("k", scopes=[Scope.READ], actor="test")
    async with reading(site, job_id, authorization=f"Bearer {secret}") as reader:
        await until(lambda: reader.events)
        site.scheduler.keys.revoke(made.id, "test")
        site.gpu.must_claim()
        await until(lambda: reader.ended)
    assert reader.said == [("status", "queued")]


async def test_streams_end_when_the_server_stops(site: Site) -> None:
    job_id = (await site.submit())["id"]
    async with reading(site, job_id) as reader:
        await until(lambda: reader.events)
        site.hub.release()
        await until(lambda: reader.ended)
    assert reader.said == [("status", "queued")], "it can go on at another server"


async def test_a_thousand_readers_of_one_job_share_each_event(site: Site) -> None:
    job_id = (await site.submit())["id"]
    readers = [reading(site, job_id) for _ in range(1000)]
    opened = [await one.__aenter__() for one in readers]
    await until(lambda: all(one.events for one in opened))
    asked = 0
    get = site.scheduler.queue.get

    def counted(job: str) -> Any:
        nonlocal asked
        asked += 1
        return get(job)

    context = site.app.state.context
    context.looks._queue = _Counting(site.scheduler.queue, counted)
    site.gpu.must_claim()
    await until(lambda: all(len(one.events) == 2 for one in opened))
    assert asked <= 2
    for one in readers:
        await one.__aexit__(None, None, None)
    assert site.hub.waiting == 0


class _Counting:
    def __init__(self, queue: Any, get: Any) -> None:
        self._queue = queue
        self.get = get

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


async def test_no_job_no_stream(site: Site) -> None:
    check_problem(await site.client.get("/v1/jobs/job_x/events"), 404, "not_found")
    check_problem(await site.client.get(f"/v1/jobs/job_{'0' * 26}/events"), 404, "not_found")
