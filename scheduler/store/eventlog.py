"""The event log as it is written: one row a change, in the change's own transaction.

Readers go by `position`, which grows by one with each event. SQLite has one writer at a time, so the insert sets it. On
PostgreSQL a transaction may commit after one that wrote later, and a reader already past its number would miss it: the
insert leaves the position empty there, and `number` fills it in once the event is committed.

An event that belongs to a guarded change must be written after the guard has passed, so that two events of one job
get ids in the order of its changes.
"""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from sqlalchemy import JSON, Connection, bindparam, text

# What an insert puts into `position`, by dialect; an insert of several rows at once would give all the same.
POSITION = {
    "sqlite": "(SELECT coalesce(max(position), 0) + 1 FROM events)",
    "postgresql": "CAST(NULL AS bigint)",
}
AT_ONCE = 1000  # events that one transaction numbers or prunes

_APPEND = {
    dialect: text(
        f"""
        INSERT INTO events (position, at, type, subject, tenant, actor, data)
        VALUES ({position}, :at, :type, :subject, :tenant, :actor, :data)
        """  # noqa: S608
    ).bindparams(bindparam("data", type_=JSON))
    for dialect, position in POSITION.items()
}
_LOCK = text(f"SELECT pg_advisory_xact_lock({0x7265656C7165})")  # "reelqe"
_NUMBER = text(
    f"""
    UPDATE events SET position = numbered.position
    FROM (
        SELECT id, (SELECT coalesce(max(position), 0) FROM events) + row_number() OVER (ORDER BY id) AS position
        FROM (SELECT id FROM events WHERE position IS NULL ORDER BY id LIMIT {AT_ONCE}) AS first
    ) AS numbered
    WHERE events.id = numbered.id
    """  # noqa: S608
)
_OLDEST = text("SELECT position, at FROM events WHERE position IS NOT NULL ORDER BY position LIMIT :limit")
_PRUNE = text("DELETE FROM events WHERE position BETWEEN :first AND :last")


def append(
    conn: Connection,
    type: str,  # noqa: A002  the column's name
    subject: str,
    at: float,
    *,
    tenant: str | None = None,
    actor: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write one event: `subject` is the id of the job or GPU that changed, `actor` who asked, `data` more as JSON."""
    values = {"at": at, "type": type, "subject": subject, "tenant": tenant, "actor": actor, "data": dict(data or {})}
    conn.execute(_APPEND[conn.dialect.name], values)


def number(conn: Connection) -> int:
    """Give committed events their positions, at most `AT_ONCE`; returns how many.

    They go by id. The later of two events of one job is never seen without the earlier, so they stay in order.
    """
    if conn.dialect.name == "sqlite":
        return 0
    _lock(conn)
    return conn.execute(_NUMBER).rowcount


def prune(conn: Connection, before: float) -> int:
    """Delete the oldest events, at most `AT_ONCE`, up to the first that is not from before `before`; returns how many.

    What is left has no gaps. The newest event stays whatever its age: positions go on from it.
    """
    _lock(conn)
    oldest = conn.execute(_OLDEST, {"limit": AT_ONCE + 1}).all()
    old = list(takewhile(lambda event: event.at < before, oldest[:-1]))  # the last one seen may be the newest
    if not old:
        return 0
    return conn.execute(_PRUNE, {"first": old[0].position, "last": old[-1].position}).rowcount


def _lock(conn: Connection) -> None:
    """Let one transaction at a time number or prune. The statement after it sees what it has waited for."""
    if conn.dialect.name == "postgresql":
        conn.execute(_LOCK)
