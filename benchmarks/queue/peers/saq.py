"""saq on Redis."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis import asyncio as redis
from saq import Worker
from saq.job import Status
from saq.queue.redis import RedisQueue

from benchmarks.queue.systems import PAYLOAD, AsyncCalls, AsyncSystem


class Saq(AsyncSystem):
    """Its defaults, with a concurrency of one."""

    def _queue(self) -> RedisQueue:
        return RedisQueue(redis.from_url(self.url))

    def install(self) -> None:
        """Empty the server: Redis has no schema, and its databases share one log."""

        async def install() -> None:
            async with redis.from_url(self.url) as client:
                await client.flushall()

        asyncio.run(install())

    def fill(self, jobs: int) -> None:
        """Enqueue one by one."""
        self.submit(jobs, callers=8)

    @asynccontextmanager
    async def calls(self, connections: int) -> AsyncIterator[AsyncCalls]:  # noqa: ARG002  its client opens what it needs
        """Enqueue, dequeue and finish as its clients and workers do."""
        queue = self._queue()
        yield AsyncCalls(
            submit=lambda: queue.enqueue("job", payload=PAYLOAD),
            claim=queue.dequeue,
            finish=lambda job: job.finish(Status.COMPLETE),
        )
        await queue.disconnect()

    def work(self, ran: Callable[[], None], *, until_empty: bool) -> None:
        """Run its worker."""
        logging.getLogger("saq").setLevel(logging.ERROR)

        async def work() -> None:
            queue = self._queue()

            async def job(_context: Any, *, payload: str) -> None:  # noqa: ARG001  what a task looks like
                ran()

            functions = [("job", job)]
            if until_empty:
                worker = Worker(queue, functions, concurrency=1, burst=True, dequeue_timeout=1)
            else:
                worker = Worker(queue, functions, concurrency=1)
            await worker.start()
            await queue.disconnect()

        asyncio.run(work())


SYSTEM = Saq
