"""Answers that are made once for all who ask."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.looks import Looks
from app.streams import event, version_of
from scheduler.errors import NotFound, StoreUnreachable
from scheduler.records import Job, Progress
from scheduler.states import JobStatus, Stage
from tests.unit.app.test_views import PLACE, QUEUED

RUNNING = replace(QUEUED, status=JobStatus.RUNNING, version=(2, 5), progress=Progress(Stage.DENOISING, 5, 50, 0.1))
BASE = "http://h"


class Queue:
    """A queue with one job, which counts how often it is asked."""

    def __init__(self, job: Job | None) -> None:
        self.job = job
        self.reads = 0
        self.asked: list[list[str]] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def versions(self, job_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        assert self.gate.wait(30)
        self.asked.append(list(job_ids))
        if self.error:
            raise self.error
        return {self.job.id: self.job.version} if self.job and self.job.id in job_ids else {}

    def get(self, job_id: str) -> Job:
        self.reads += 1
        assert self.job is not None
        return self.job

    def explain(self, job: Job) -> Any:
        return PLACE if job.status is JobStatus.QUEUED else None


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def looks(queue: Queue, *, at_once: bool = True, clock: Clock | None = None) -> Looks:
    stand_in: Any = queue
    return Looks(stand_in, at_once=at_once, place_seconds=1.0, clock=clock or Clock())


async def test_one_version_is_read_and_written_once() -> None:
    queue = Queue(RUNNING)
    known = looks(queue)
    first = await known.get("job_1", BASE)
    assert await known.get("job_1", BASE) is first
    assert queue.reads == 1
    queue.job = replace(RUNNING, version=(2, 6))
    assert (await known.get("job_1", BASE)).version == (2, 6)
    assert queue.reads == 2


async def test_many_who_ask_at_once_wait_for_one_answer() -> None:
    queue = Queue(RUNNING)
    known = looks(queue)
    found = await asyncio.gather(*[known.get("job_1", BASE) for _ in range(200)])
    assert len({id(one) for one in found}) == 1
    assert queue.reads == 1


async def test_one_who_leaves_takes_nobodys_answer_along() -> None:
    queue = Queue(RUNNING)
    known = looks(queue)
    first, second = (asyncio.ensure_future(known.get("job_1", BASE)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).version == (2, 5)


async def test_urls_are_the_callers_own() -> None:
    known = looks(Queue(RUNNING))
    assert await known.get("job_1", "http://a") is not await known.get("job_1", "http://b")


async def test_a_queued_jobs_place_is_looked_up_again_after_a_while() -> None:
    queue, clock = Queue(QUEUED), Clock()
    known = looks(queue, clock=clock)
    first = await known.get("job_1", BASE)
    clock.now += 0.9
    assert await known.get("job_1", BASE) is first
    clock.now += 0.1
    assert await known.get("job_1", BASE) is not first


async def test_a_job_that_is_not_there_or_no_more() -> None:
    queue = Queue(RUNNING)
    known = looks(queue)
    await known.get("job_1", BASE)
    queue.job = None
    with pytest.raises(NotFound, match="no job job_1"):
        await known.get("job_1", BASE)


async def test_polls_that_come_while_one_is_under_way_share_the_next() -> None:
    queue = Queue(RUNNING)
    known = looks(queue, at_once=False)
    queue.gate.clear()
    early = asyncio.ensure_future(known.version("job_1"))
    while not known._asking or known._asked:  # noqa: ASYNC110  nothing tells that the thread has begun
        await asyncio.sleep(0)
    late = [asyncio.ensure_future(known.version(job_id)) for job_id in ("job_1", "job_1", "job_2")]
    await asyncio.sleep(0)
    queue.gate.set()
    assert await early == (2, 5)
    assert await asyncio.gather(*late) == [(2, 5), (2, 5), None]
    assert queue.asked == [["job_1"], ["job_1", "job_2"]]
    known.close()


async def test_a_store_that_is_away_is_told_to_all_and_asked_again() -> None:
    queue = Queue(RUNNING)
    known = looks(queue, at_once=False)
    queue.error = StoreUnreachable("gone")
    waiting = [known.version("job_1"), known.version("job_2")]
    assert all(isinstance(one, StoreUnreachable) for one in await asyncio.gather(*waiting, return_exceptions=True))
    queue.error = None
    assert await known.version("job_1") == (2, 5)
    known.close()


async def test_no_more_bytes_than_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(RUNNING)
    known = looks(queue)
    size = len((await known.get("job_1", BASE)).body)
    monkeypatch.setattr("app.looks._MOST_BYTES", 10 * size + 99)
    for number in range(50):
        await known.get("job_1", f"{BASE}{number}")
    assert 9 <= len(known._known) <= 10
    assert known._known_bytes == sum(len(look.body) for look in known._known.values())
    reads = queue.reads
    await known.get("job_1", f"{BASE}49")
    assert queue.reads == reads, "the newest are kept"


async def test_a_change_of_state_is_told_whole_and_a_step_in_short() -> None:
    look = await looks(Queue(RUNNING)).get("job_1", BASE)
    assert event(look, None) == b"event: status\nid: 2-5\ndata: " + look.body + b"\n\n"
    assert event(look, (1, 0)) == event(look, None)
    step = event(look, (2, 4)).decode()
    assert step.startswith("event: progress\nid: 2-5\ndata: {")
    assert '"step": 5' in step
    assert "prompt" not in step


@pytest.mark.parametrize(
    ("text", "version"), [("2-5", (2, 5)), ("", None), (None, None), ("2", None), ("a-b", None), ("2-5 ", None)]
)
def test_the_id_of_the_last_event(text: str | None, version: tuple[int, int] | None) -> None:
    assert version_of(text) == version
