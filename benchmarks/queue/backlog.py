"""A long queue, made quickly: rows copied inside the database from jobs that were really submitted.

One job of each shape is submitted; each copy gets an id of its own and a rank as if it had been submitted some time
earlier. The log of events is not copied: no claim reads it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Column, Connection, Table, func, select, text

from benchmarks.queue.reelq import SHAPES, new_job
from scheduler.service import Scheduler
from scheduler.store.schema import job_states, jobs, metadata

_AGES = 10.0  # ranks are spread over so many `tau` of submit times
_LARGE = 2**32
_CHUNK = 50_000  # jobs a transaction: the service limits how long a statement may run
_ID = {"sqlite": "printf('job_%026d', n)", "postgresql": "'job_' || lpad(CAST(n AS text), 26, '0')"}
_SERIES = {
    "sqlite": "WITH RECURSIVE series(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM series WHERE n < :last)"
    " INSERT INTO bench_new (n, shape) SELECT n, n % :shapes FROM series",
    "postgresql": "INSERT INTO bench_new (n, shape) SELECT n, n % CAST(:shapes AS integer)"
    " FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS series(n)",
}
_INDEXES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE tbl_name = 'job_states' AND type = 'index' AND sql IS NOT NULL"
    " ORDER BY rowid",
    "postgresql": "SELECT CAST(CAST(indexrelid AS regclass) AS text) FROM pg_index"
    " WHERE indrelid = CAST('job_states' AS regclass) AND NOT indisprimary ORDER BY indexrelid",
}
_LAST_COPY = "job_0000" + "z" * 22  # ids of submitted jobs are later: they begin with the time


class Backlog:
    """The queue of one database. Not thread-safe."""

    def __init__(self, scheduler: Scheduler) -> None:
        """Submit one job of each shape, to copy from."""
        self._database = scheduler.database
        self.models = [scheduler.queue.submit(new_job(params)).job for params in SHAPES]

    @property
    def smallest_class(self) -> int:
        """The memory class of the smallest shape: one job in twenty."""
        return min(job.memory_class for job in self.models)

    def add(self, count: int) -> None:
        """Queue `count` jobs of all shapes alike."""
        with self._without_indexes():
            for start in range(0, count, _CHUNK):
                with self._database.write() as conn:
                    first = self._prepare(conn)
                    last = first + min(_CHUNK, count - start) - 1
                    values = {"first": first, "last": last, "shapes": len(SHAPES)}
                    conn.execute(text(_SERIES[conn.dialect.name]), values)
                    self._copy(conn)

    def add_shapes(self, shapes: Sequence[int]) -> None:
        """Queue one job of each of these shapes, given by their numbers."""
        with self._database.write() as conn:
            first = self._prepare(conn)
            rows = [{"n": first + at, "shape": shape} for at, shape in enumerate(shapes)]
            conn.execute(text("INSERT INTO bench_new (n, shape) VALUES (:n, :shape)"), rows)
            self._copy(conn)

    @contextmanager
    def _without_indexes(self) -> Iterator[None]:
        """Drop the queue's indexes and build them again at the end, which takes a tenth of growing them row by row."""
        known = {index.name: index for index in job_states.indexes}
        with self._database.write() as conn:
            indexes = [known[name] for name in conn.execute(text(_INDEXES[conn.dialect.name])).scalars()]
            for index in indexes:
                index.drop(conn)
        yield
        for index in indexes:  # in the same order: between two that serve alike, SQLite goes by it
            with self._database.write() as conn:
                index.create(conn)

    def _prepare(self, conn: Connection) -> int:
        """Empty the list of new jobs; returns the number of the next one."""
        conn.execute(text("CREATE TEMPORARY TABLE IF NOT EXISTS bench_new (n bigint PRIMARY KEY, shape integer)"))
        conn.execute(text("CREATE TEMPORARY TABLE IF NOT EXISTS bench_models (shape integer PRIMARY KEY, id text)"))
        conn.execute(text("DELETE FROM bench_new"))
        conn.execute(text("DELETE FROM bench_models"))
        models = [{"shape": shape, "id": job.id} for shape, job in enumerate(self.models)]
        conn.execute(text("INSERT INTO bench_models (shape, id) VALUES (:shape, :id)"), models)
        last: str | None = conn.execute(select(func.max(jobs.c.id)).where(jobs.c.id < _LAST_COPY)).scalar_one()
        return int(last.removeprefix("job_")) + 1 if last else 1

    def _copy(self, conn: Connection) -> None:
        for table in metadata.sorted_tables:
            key = _job_column(table)
            if key is not None and conn.execute(select(key).where(key == self.models[0].id).limit(1)).first():
                conn.execute(text(_copy_statement(conn.dialect.name, table, key)))


def _job_column(table: Table) -> "Column[str] | None":
    """The column with the id of the job that a row belongs to."""
    if table is jobs:
        return table.c.id
    return next((column for column in table.columns if column.references(jobs.c.id)), None)


def _copy_statement(engine: str, table: Table, key: "Column[str]") -> str:
    # A hash of n, from 0 to 1: how much earlier than its model a copy was submitted.
    age = f"(((n * 2654435761) % {_LARGE}) * {_AGES} / {_LARGE})"
    changed = {key.name: _ID[engine]} | ({"rank": f"model.rank + {age}"} if table is job_states else {})
    names = [column.name for column in table.columns]
    values = ", ".join(changed.get(name, f"model.{name}") for name in names)
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {values}"  # noqa: S608  our own tables' names
        f" FROM bench_new JOIN bench_models USING (shape) JOIN {table.name} model ON model.{key.name} = bench_models.id"
        " ORDER BY n"
    )
