"""What every measured queue is asked to do. A job does nothing and carries a payload of 1 KB.

Standard library only, since each queue runs in its own environment.
"""

import asyncio
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

PAYLOAD = random.Random(0).randbytes(500).hex()  # noqa: S311  1,000 bytes that do not compress away
WARM_UP = 20  # unmeasured calls first: connections opened, statements prepared
_IDLE_SECONDS = 0.02  # between probes, so that the worker has finished and waits again


class System(ABC):
    """One queue, as one process of its users sees it."""

    def __init__(self, url: str, folder: Path, worker: int = 0) -> None:
        """Open nothing yet. All processes of one database share `folder`; `worker` numbers its workers."""
        self.url = url
        self.folder = folder
        self.worker = worker

    @abstractmethod
    def install(self) -> None:
        """Make the schema in an empty database."""

    @abstractmethod
    def fill(self, jobs: int) -> None:
        """Queue so many more jobs in bulk, unmeasured and waking nobody."""

    @abstractmethod
    def submit(self, jobs: int, callers: int) -> float:
        """Submit `jobs` one by one, shared by concurrent callers; return jobs/s."""

    @abstractmethod
    def claim(self, count: int) -> list[float]:
        """Claim and finish `count` jobs; return the seconds of each claim."""

    @abstractmethod
    def probe(self, ran_at: Callable[[], float], until: Callable[[int], bool]) -> list[float]:
        """Submit a job, wait until it ran, and again until `until(done)`; return the seconds from call to start."""

    @abstractmethod
    def work(self, ran: Callable[[], None], *, until_empty: bool) -> None:
        """Be a worker that runs one job at a time and calls `ran` in each, for ever or until none is queued."""


class Calls(NamedTuple):
    """The calls of a queue whose clients block."""

    submit: Callable[[], object]
    claim: Callable[[], Any]
    finish: Callable[[Any], object]


class ThreadedSystem(System):
    """A queue whose clients block: concurrent callers are threads of one process."""

    @abstractmethod
    def calls(self) -> AbstractContextManager[Calls]:
        """Open the queue for callers."""

    def submit(self, jobs: int, callers: int) -> float:
        """Submit from `callers` threads."""
        with self.calls() as queue:

            def call(times: int) -> None:
                for _ in range(times):
                    queue.submit()

            def share(times: int) -> float:
                threads = [threading.Thread(target=call, args=(times,)) for _ in range(callers)]
                started = time.monotonic()
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                return time.monotonic() - started

            share(WARM_UP)
            return jobs // callers * callers / share(jobs // callers)

    def claim(self, count: int) -> list[float]:
        """Claim from one thread."""
        with self.calls() as queue:
            seconds = []
            for _ in range(WARM_UP + count):
                started = time.monotonic()
                job = queue.claim()
                seconds.append(time.monotonic() - started)
                queue.finish(job)
            return seconds[WARM_UP:]

    def probe(self, ran_at: Callable[[], float], until: Callable[[int], bool]) -> list[float]:
        """Submit from one thread."""
        with self.calls() as queue:
            seconds: list[float] = []
            while not until(len(seconds) - WARM_UP):
                called = time.monotonic()
                queue.submit()
                seconds.append(ran_at() - called)
                time.sleep(_IDLE_SECONDS)
            return seconds[WARM_UP:]


class AsyncCalls(NamedTuple):
    """The calls of a queue whose clients are coroutines."""

    submit: Callable[[], Awaitable[object]]
    claim: Callable[[], Awaitable[Any]]
    finish: Callable[[Any], Awaitable[object]]


class AsyncSystem(System):
    """A queue whose clients are coroutines: concurrent callers are tasks of one event loop."""

    run = staticmethod(asyncio.run)

    @abstractmethod
    def calls(self, connections: int) -> AbstractAsyncContextManager[AsyncCalls]:
        """Open the queue for callers, with so many connections."""

    def submit(self, jobs: int, callers: int) -> float:
        """Submit from `callers` tasks."""

        async def main() -> float:
            async with self.calls(callers) as queue:

                async def call(times: int) -> None:
                    for _ in range(times):
                        await queue.submit()

                await asyncio.gather(*(call(WARM_UP) for _ in range(callers)))
                started = time.monotonic()
                await asyncio.gather(*(call(jobs // callers) for _ in range(callers)))
                return jobs // callers * callers / (time.monotonic() - started)

        return self.run(main())

    def claim(self, count: int) -> list[float]:
        """Claim from one task."""

        async def main() -> list[float]:
            async with self.calls(1) as queue:
                seconds = []
                for _ in range(WARM_UP + count):
                    started = time.monotonic()
                    job = await queue.claim()
                    seconds.append(time.monotonic() - started)
                    await queue.finish(job)
                return seconds[WARM_UP:]

        return self.run(main())

    def probe(self, ran_at: Callable[[], float], until: Callable[[int], bool]) -> list[float]:
        """Submit from one task."""

        async def main() -> list[float]:
            async with self.calls(1) as queue:
                seconds: list[float] = []
                while not until(len(seconds) - WARM_UP):
                    called = time.monotonic()
                    await queue.submit()
                    seconds.append(await asyncio.to_thread(ran_at) - called)
                    await asyncio.sleep(_IDLE_SECONDS)
                return seconds[WARM_UP:]

        return self.run(main())
