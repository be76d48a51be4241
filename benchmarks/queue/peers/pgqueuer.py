"""pgqueuer on PostgreSQL."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from benchmarks.queue.systems import PAYLOAD, AsyncCalls, AsyncSystem

_BATCH = 20_000


class Pgqueuer(AsyncSystem):
    """asyncpg and uvloop, as its own command runs it.

    It refuses fewer concurrent tasks than twice the batch: one job at a time is a batch of one, and up to two at once.
    """

    run = staticmethod(uvloop.run)

    def install(self) -> None:
        """Apply its schema and its autovacuum settings."""

        async def install() -> None:
            connection = await asyncpg.connect(self.url)
            queries = Queries.from_asyncpg_connection(connection)
            await queries.install()
            await queries.optimize_autovacuum()
            await connection.close()

        self.run(install())

    def fill(self, jobs: int) -> None:
        """Enqueue in large batches."""

        async def fill() -> None:
            connection = await asyncpg.connect(self.url)
            queries = Queries.from_asyncpg_connection(connection)
            for at in range(0, jobs, _BATCH):
                size = min(_BATCH, jobs - at)
                await queries.enqueue(["job"] * size, [b"{}"] * size, [0] * size)
            await connection.close()

        self.run(fill())

    @asynccontextmanager
    async def calls(self, connections: int) -> AsyncIterator[AsyncCalls]:
        """Enqueue, dequeue and log as its clients and workers do."""
        async with asyncpg.create_pool(self.url, min_size=connections, max_size=connections) as pool:
            queries = Queries.from_asyncpg_pool(pool)
            worker = uuid.uuid4()
            payload = PAYLOAD.encode()

            async def claim() -> object:
                (job,) = await queries.dequeue(
                    batch_size=1,
                    entrypoints={"job": EntrypointExecutionParameter(0)},
                    queue_manager_id=worker,
                    global_concurrency_limit=2,
                    heartbeat_timeout=timedelta(seconds=30),
                )
                return job

            yield AsyncCalls(
                submit=lambda: queries.enqueue("job", payload),
                claim=claim,
                finish=lambda job: queries.log_jobs([(job, "successful", None)]),
            )

    def work(self, ran: Callable[[], None], *, until_empty: bool) -> None:
        """Run its worker with a batch of one."""

        async def work() -> None:
            connection = await asyncpg.connect(self.url)
            queue = PgQueuer(AsyncpgDriver(connection))

            async def job(_job: object) -> None:
                ran()

            queue.entrypoint("job", accepts_context=False)(job)
            mode = QueueExecutionMode.drain if until_empty else QueueExecutionMode.continuous
            await queue.run(batch_size=1, max_concurrent_tasks=2, mode=mode)
            await connection.close()

        self.run(work())


SYSTEM = Pgqueuer
