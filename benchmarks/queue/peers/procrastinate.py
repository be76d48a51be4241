"""procrastinate on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import procrastinate
import psycopg
from procrastinate.jobs import Status

from benchmarks.queue.systems import PAYLOAD, AsyncCalls, AsyncSystem


class Procrastinate(AsyncSystem):
    """Its defaults: psycopg's pool, one job at a time, ended jobs kept."""

    def _app(self, connections: int) -> procrastinate.App:
        connector = procrastinate.PsycopgConnector(conninfo=self.url, min_size=connections, max_size=connections)
        return procrastinate.App(connector=connector)

    def install(self) -> None:
        """Apply its schema."""

        async def install() -> None:
            async with self._app(1).open_async() as app:
                await app.schema_manager.apply_schema_async()

        asyncio.run(install())

    def fill(self, jobs: int) -> None:
        """Insert rows without its triggers, which would notify workers and log an event a row."""
        insert = (
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
            " SELECT 'default', 'job', '{}' FROM generate_series(1, %s)"
        )
        with psycopg.connect(self.url) as conn:
            conn.execute("SET LOCAL session_replication_role = replica")
            conn.execute(insert, (jobs,))

    @asynccontextmanager
    async def calls(self, connections: int) -> AsyncIterator[AsyncCalls]:
        """Defer, fetch and finish as its tasks and workers do."""
        async with self._app(connections).open_async() as app:
            task = app.task(name="job")(_nothing)
            manager = app.job_manager
            worker_id = await manager.register_worker()
            yield AsyncCalls(
                submit=lambda: task.defer_async(payload=PAYLOAD),
                claim=lambda: manager.fetch_job(queues=None, worker_id=worker_id),
                finish=lambda job: manager.finish_job(job, Status.SUCCEEDED, delete_job=False),
            )

    def work(self, ran: Callable[[], None], *, until_empty: bool) -> None:
        """Run its worker with a concurrency of one."""

        async def work() -> None:
            async with self._app(4).open_async() as app:

                async def job(payload: str) -> None:  # noqa: ARG001  what a task looks like
                    ran()

                app.task(name="job")(job)
                await app.run_worker_async(concurrency=1, wait=not until_empty)

        asyncio.run(work())


async def _nothing(payload: str) -> None:
    pass


SYSTEM = Procrastinate
