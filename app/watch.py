"""Telling waiting requests that a job has changed, with one thread for all of them.

Wake-ups make it fast; once a second the thread also compares the versions of all waited jobs, so that a lost
wake-up, or a worker on another machine, costs a second and never a change.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import structlog

from scheduler.wakeup import ANY_JOB, CHANGES, Listener, Wakeup, job_of

Version = tuple[int, int]
_STOPPING = "front-end-stopping"

log = structlog.get_logger(__name__)


class Watch:
    """One request's view of one job; use it on the event loop only."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.version: Version | None = None
        self._event = asyncio.Event()

    async def changed(self, version: Version, timeout_seconds: float) -> None:
        """Wait until the job may differ from `version`, or `timeout_seconds` have passed."""
        self.version = version
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_seconds)
        self._event.clear()

    def wake(self) -> None:
        """End the wait now, or the next one before it begins."""
        self._event.set()


class ChangeHub:
    """The meeting point of waiting requests and changes."""

    def __init__(
        self, wakeup: Wakeup, versions: Callable[[Iterable[str]], dict[str, Version]], *, poll_seconds: float = 1.0
    ) -> None:
        self._wakeup = wakeup
        self._versions = versions
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()  # guards _watches, which both threads read
        self._watches: dict[str, set[Watch]] = {}
        self._stopping = threading.Event()
        self.released = False

    def start(self) -> None:
        """Begin to listen; call it on the event loop that the requests run on."""
        self._loop = asyncio.get_running_loop()
        listener = self._wakeup.listen(CHANGES)
        self._thread = threading.Thread(target=self._listen, args=(listener,), name="change-hub", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Wake every waiting request for good: the server is about to stop. Call it on the event loop."""
        self.released = True
        self._wake(list(self._watches))

    def stop(self) -> None:
        """End the thread; takes up to one poll's time if the wake-up is lost."""
        self._stopping.set()
        self._wakeup.notify(_STOPPING)
        self._thread.join()

    @property
    def waiting(self) -> int:
        """How many requests watch a job."""
        with self._lock:
            return sum(len(watches) for watches in self._watches.values())

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Watch]:
        """Watch a job. Read it after this began, then wait: no change in between is missed."""
        watch = Watch(job_id)
        with self._lock:
            self._watches.setdefault(job_id, set()).add(watch)
        try:
            yield watch
        finally:
            with self._lock:
                self._watches[job_id].discard(watch)
                if not self._watches[job_id]:
                    del self._watches[job_id]

    def _listen(self, listener: Listener) -> None:
        with listener:
            next_poll = time.monotonic() + self._poll_seconds
            while not self._stopping.is_set():
                topics = listener.wait(next_poll - time.monotonic())
                self._wake_from_thread({job_id for topic in topics if (job_id := job_of(topic))})
                if ANY_JOB in topics:  # changes on other machines may have been missed
                    next_poll = time.monotonic()
                if time.monotonic() >= next_poll:
                    self._wake_from_thread(self._stale())
                    next_poll = time.monotonic() + self._poll_seconds

    def _stale(self) -> set[str]:
        """Jobs of which some watch holds another version than the store (a deleted job has none)."""
        with self._lock:
            held = {job_id: {w.version for w in watches if w.version} for job_id, watches in self._watches.items()}
        if not held:
            return set()
        try:
            current = self._versions(held)
        except Exception:  # the store may be back at the next poll; the requests' own time limits hold
            log.exception("cannot look for changed jobs")
            return set()
        return {job_id for job_id, versions in held.items() if versions - {current.get(job_id)}}

    def _wake_from_thread(self, job_ids: set[str]) -> None:
        with self._lock:
            waited = [job_id for job_id in job_ids if job_id in self._watches]
        if waited:
            self._loop.call_soon_threadsafe(self._wake, waited)

    def _wake(self, job_ids: Iterable[str]) -> None:
        with self._lock:
            watches = [watch for job_id in job_ids for watch in self._watches.get(job_id, ())]
        for watch in watches:
            watch.wake()
