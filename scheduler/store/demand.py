"""Submits that were refused because no GPU could ever hold the job: how many of each shape, hour by hour.

They leave no job, but they are demand. However many come, an hour has a bounded number of rows: what is beyond counts
together, under no model and no shape.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, tuple_

from scheduler.store import schema as s
from scheduler.store.script import Statement, Trip

AT_ONCE = 1000  # rows that are deleted in one transaction
SHAPES_AN_HOUR = 100
_HOUR = 3600
# One at a time: or two would each wait for a row that the other has, and an hour could get more rows than it may have.
_LOCK = Statement("SELECT pg_advisory_xact_lock(hashtextextended('refused_submits', 0))", postgres_only=True)
_COUNT = Statement("""
    WITH place AS (
        SELECT EXISTS (SELECT 1 FROM refused_submits WHERE at = :at AND model = :model AND shape = :shape)
            OR (SELECT count(*) FROM refused_submits WHERE at = :at) < :most AS is_there
    )
    INSERT INTO refused_submits (at, model, shape, submits, needed_bytes)
    SELECT :at, CASE WHEN is_there THEN :model ELSE '' END, CASE WHEN is_there THEN :shape ELSE '' END, 1, :needed_bytes
    FROM place WHERE true
    ON CONFLICT (at, model, shape) DO UPDATE SET
        submits = refused_submits.submits + 1,
        needed_bytes = CASE
            WHEN excluded.needed_bytes > refused_submits.needed_bytes THEN excluded.needed_bytes
            ELSE refused_submits.needed_bytes
        END
""")


@dataclass(frozen=True, slots=True)
class RefusedSubmit:
    """What was asked for, as a shape's key, and the memory that it needs where it lacks the least."""

    model: str
    shape: str
    needed_bytes: int


def record(trip: Trip, refused: Iterable[RefusedSubmit], now: float) -> None:
    """Count submits that are refused at `now`, in the order of their coming; the last thing before the commit."""
    rows = [
        {
            "at": int(now // _HOUR) * _HOUR,
            "model": one.model,
            "shape": one.shape,
            "needed_bytes": one.needed_bytes,
            "most": SHAPES_AN_HOUR,
        }
        for one in refused
    ]
    if rows:
        trip.each(_LOCK, [{}])
        trip.each(_COUNT, rows)


def read(conn: Connection, since: float, until: float) -> list[Any]:
    """Return `shape`, `submits` and the most `needed_bytes` of all hours that reach into [since, until)."""
    columns = s.refused_submits.c
    submits = func.sum(columns.submits).label("submits")
    query = (
        select(columns.shape, submits, func.max(columns.needed_bytes).label("needed_bytes"))
        .where(columns.at > since - _HOUR, columns.at < until)
        .group_by(columns.shape)
        .order_by(submits.desc(), columns.shape)
    )
    return list(conn.execute(query))


def prune(conn: Connection, before: float) -> int:
    """Delete hours that were over before `before`, at most `AT_ONCE` rows; returns how many."""
    table = s.refused_submits
    key = (table.c.at, table.c.model, table.c.shape)
    old = select(*key).where(table.c.at <= before - _HOUR).order_by(*key).limit(AT_ONCE)
    rows = [tuple(row) for row in conn.execute(old)]
    return conn.execute(delete(table).where(tuple_(*key).in_(rows))).rowcount if rows else 0
