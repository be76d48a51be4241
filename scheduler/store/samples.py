"""Statements about the samples of the GPUs: into a bucket, out of many, and away.

The key begins with the GPU, so that a chart of one reads nothing of the others. What looks at all of them steps from
GPU to GPU, one index seek each, and reads of each only what it wants.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, case, delete, func
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from scheduler.store import schema as s
from scheduler.store import script
from scheduler.store.schema import GAUGES
from scheduler.store.script import Statement

AT_ONCE = 1000  # buckets that one statement deletes

_STANDING = Statement(
    """
    SELECT g.seen_at,
           CAST((SELECT coalesce(sum(w.resident_bytes), 0) FROM workers w WHERE w.gpu_id = g.id) AS bigint)
               AS resident_bytes,
           CAST((SELECT coalesce(sum(lanes.bytes), 0) FROM (
               SELECT max(l.reserved_bytes) AS bytes FROM leases l WHERE l.gpu_id = :gpu_id
               GROUP BY l.worker_id, l.lane
           ) AS lanes) AS bigint) AS leased_bytes
    FROM gpus g WHERE g.id = :gpu_id
    """
)
_TOTALS = ("samples", "hot_samples", "seconds", "busy_seconds")
_SUMMED_UP = ", ".join(
    [
        *(f"sum(q.{name}) AS {name}" for name in _TOTALS),
        *(f"sum(q.{name}_sum) AS {name}_sum" for name in GAUGES),
        *(f"sum(q.{name}_count) AS {name}_count" for name in GAUGES),
        *(f"max(q.{name}_max) AS {name}_max" for name in GAUGES),
    ]
)
_GPUS = """
    WITH RECURSIVE known(gpu_id) AS (
        SELECT min(gpu_id) FROM gpu_samples
        UNION ALL
        SELECT (SELECT min(q.gpu_id) FROM gpu_samples q WHERE q.gpu_id > known.gpu_id)
        FROM known WHERE known.gpu_id IS NOT NULL
    )
"""
_OF_ANY = "q.gpu_id {among} (SELECT gpu_id FROM known WHERE gpu_id IS NOT NULL){end_among}"
_SERIES = Statement(
    f"""
    SELECT q.at / CAST(:width AS bigint) * CAST(:width AS bigint) AS start, {_SUMMED_UP} FROM gpu_samples q
    WHERE q.gpu_id = :gpu_id AND q.step_seconds = :step_seconds AND q.at >= :first AND q.at < :last
    GROUP BY 1 ORDER BY 1
    """  # noqa: S608  names of columns
)
# A row that is locked is being deleted by somebody else; waiting for it could end in a deadlock.
_OLD = Statement(
    f"""
    {_GPUS}
    SELECT q.gpu_id AS of_gpu, q.at AS begins_at FROM gpu_samples q
    WHERE {_OF_ANY} AND q.step_seconds = :step_seconds AND q.at < :before
    ORDER BY q.gpu_id, q.at LIMIT :most {{skip_locked}}
    """  # noqa: S608  text from here
)
_DELETE = delete(s.gpu_samples).where(
    s.gpu_samples.c.gpu_id == bindparam("of_gpu"),
    s.gpu_samples.c.step_seconds == bindparam("of_step"),
    s.gpu_samples.c.at == bindparam("begins_at"),
)


class Standing(NamedTuple):
    """When a GPU was last heard of, what its workers hold between jobs, and what its open leases hold; bytes."""

    seen_at: float
    resident_bytes: int
    leased_bytes: int


class Part(NamedTuple):
    """The buckets of one step that begin in [first, last), in seconds since 1970."""

    step_seconds: int
    first: int
    last: int


def standing(conn: Connection, gpu_id: str) -> Standing | None:
    """Return how the books say that a GPU stands; None where it is not known."""
    return next((Standing(*row) for row in script.select(conn, _STANDING, {"gpu_id": gpu_id})), None)


def add(conn: Connection, buckets: Sequence[Mapping[str, Any]]) -> None:
    """Add samples to their buckets, which are made where they are new: a row of `gpu_samples` each."""
    conn.execute(_insertion(conn.dialect.name), list(buckets))


def series(conn: Connection, gpu_id: str, part: Part, width_seconds: int) -> Sequence[Any]:
    """Return the buckets of one GPU, summed up to such of `width_seconds` (a multiple of their step), in order.

    A row is of the columns of `gpu_samples`, and has the time it begins at as `start`.
    """
    return script.select(conn, _SERIES, {"gpu_id": gpu_id, "width": width_seconds, **part._asdict()})


def totals(conn: Connection, parts: Sequence[Part]) -> Sequence[Any]:
    """Return for each GPU with buckets in any of these parts what they sum up to: a row as `series` has them."""
    if not parts:
        return []
    bounds = {f"{name}_{at}": value for at, part in enumerate(parts) for name, value in part._asdict().items()}
    return script.select(conn, _totals(len(parts)), bounds)


def prune(conn: Connection, step_seconds: int, before: int) -> int:
    """Delete buckets of one step that begin before `before`, at most `AT_ONCE`; returns how many."""
    old = script.select(conn, _OLD, {"step_seconds": step_seconds, "before": before, "most": AT_ONCE})
    if old:
        conn.execute(_DELETE, [{"of_step": step_seconds, **row._asdict()} for row in old])
    return len(old)


@cache
def _totals(parts: int) -> Statement:
    """One scan for each part: PostgreSQL would not guess how little several need together."""
    scans = " UNION ALL ".join(
        f"SELECT q.* FROM gpu_samples q WHERE {_OF_ANY}"  # noqa: S608  text from here
        f" AND q.step_seconds = :step_seconds_{at} AND q.at >= :first_{at} AND q.at < :last_{at}"
        for at in range(parts)
    )
    return Statement(f"{_GPUS} SELECT q.gpu_id, {_SUMMED_UP} FROM ({scans}) AS q GROUP BY q.gpu_id")  # noqa: S608


@cache
def _insertion(dialect: str) -> Any:
    table = s.gpu_samples
    insert = (sqlite_insert if dialect == "sqlite" else postgres_insert)(table)
    merged = {c.name: _merged(c, insert.excluded[c.name]) for c in table.c if not c.primary_key}
    return insert.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=merged)


def _merged(old: ColumnElement[Any], new: ColumnElement[Any]) -> ColumnElement[Any]:
    """Add them up, or take the larger one of two maxima, of which each may be NULL."""
    if not str(old.key).endswith("_max"):
        return old + new
    return case((old >= new, old), else_=func.coalesce(new, old))
