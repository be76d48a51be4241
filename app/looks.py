"""Answers to polls: each made once for a version of a job, and sent to all who ask while the job has that version.

Every poll asks the store for the job's version, so that no answer is older than its request. On SQLite that is a few
microseconds, done on the spot. On PostgreSQL it is a round trip, and all polls that come while one is under way share
the next. Only a queued job's place in the line may be as old as `place_seconds`: other jobs move it, not its version.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from app import views
from scheduler.errors import NotFound
from scheduler.prices import UNPRICED, Prices
from scheduler.queue import Queue
from scheduler.records import Job
from scheduler.states import JobStatus

Version = tuple[int, int]
_MOST_BYTES = 32 * 2**20  # of answers that are kept; one is about 2 KB


@dataclass(frozen=True, slots=True)
class Look:
    """A job as it was sent: its record, the JSON of it, and the tag that goes with that.

    `made_at` is by the monotonic clock.
    """

    job: Job
    etag: str
    body: bytes
    made_at: float

    @property
    def version(self) -> Version:
        """The job's version."""
        return self.job.version


class Looks:
    """The answers that are known. Use it on the event loop only."""

    def __init__(
        self,
        queue: Queue,
        *,
        at_once: bool,
        place_seconds: float,
        prices: Prices = UNPRICED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._at_once = at_once  # the store answers as fast as a thread would be woken
        self._place_seconds = place_seconds
        self._prices = prices
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], Look] = OrderedDict()
        self._known_bytes = 0
        self._making: dict[tuple[str, str, Version], asyncio.Future[Look]] = {}
        self._asked: dict[str, asyncio.Future[Version | None]] = {}
        self._asking = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="versions")

    async def version(self, job_id: str) -> Version | None:
        """Return the job's version as it is now, None where there is no such job; raises `StoreError`."""
        if self._at_once:
            return self._queue.versions([job_id]).get(job_id)
        found = self._asked.get(job_id)
        if found is None:
            found = self._asked[job_id] = asyncio.get_running_loop().create_future()
            if not self._asking:
                self._asking = True
                asyncio.get_running_loop().call_soon(self._ask)
        return await asyncio.shield(found)

    async def get(self, job_id: str, base_url: str) -> Look:
        """Return the job as it is now, with URLs that begin with `base_url`; raises `NotFound` and `StoreError`."""
        version = await self.version(job_id)
        if version is None:
            self._forget((job_id, base_url))
            raise NotFound(f"no job {job_id}")
        known = self._known.get((job_id, base_url))
        if known is not None and known.version == version and not self._is_stale(known):
            return known
        key = (job_id, base_url, version)
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.ensure_future(asyncio.to_thread(self._make, job_id, base_url))
            making.add_done_callback(lambda done: self._made(key, done))
        return await asyncio.shield(making)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False)

    def _is_stale(self, look: Look) -> bool:
        return look.job.status is JobStatus.QUEUED and self._clock() - look.made_at >= self._place_seconds

    def _make(self, job_id: str, base_url: str) -> Look:
        made_at = self._clock()
        job = self._queue.get(job_id)
        place = self._queue.explain(job)
        if place is None and job.status is JobStatus.QUEUED:  # claimed since it was read
            job = self._queue.get(job_id)
        body = views.job(job, place, base_url, self._prices).model_dump_json().encode()
        return Look(job, views.job_etag(job, place), body, made_at)

    def _made(self, key: tuple[str, str, Version], done: asyncio.Future[Look]) -> None:
        del self._making[key]
        if done.cancelled() or done.exception() is not None:
            return
        self._forget(key[:2])
        self._known[key[:2]] = done.result()
        self._known_bytes += len(done.result().body)
        while self._known_bytes > _MOST_BYTES:
            self._forget(next(iter(self._known)))

    def _forget(self, key: tuple[str, str]) -> None:
        known = self._known.pop(key, None)
        self._known_bytes -= len(known.body) if known else 0

    def _ask(self) -> None:
        """Read the versions of all jobs that were asked for since the last time, in the thread."""
        asked, self._asked = self._asked, {}
        reading = asyncio.get_running_loop().run_in_executor(self._thread, self._queue.versions, list(asked))
        reading.add_done_callback(lambda done: self._tell(asked, done))

    def _tell(self, asked: dict[str, asyncio.Future[Version | None]], done: asyncio.Future[dict[str, Version]]) -> None:
        error = None if done.cancelled() else done.exception()
        for job_id, waiting in asked.items():
            if waiting.done():
                continue
            if done.cancelled():
                waiting.cancel()
            elif error is not None:
                waiting.set_exception(error)
            else:
                waiting.set_result(done.result().get(job_id))
        self._asking = bool(self._asked)
        if self._asking:
            self._ask()
