"""Statements about alerts: what the rules go by, whose turn it is to look, and the alerts themselves.

Whoever changes alerts locks the row of the turn first, so that one transaction at a time does.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, case, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from scheduler.out_of_memory import OUT_OF_MEMORY
from scheduler.store import schema as s

_alerts, _turn = s.alerts.c, s.alert_turn.c
_OPEN = _alerts.resolved_at.is_(None)


def is_due(conn: Connection, now: float) -> bool:
    """Return whether nobody has looked lately."""
    next_at = conn.execute(select(_turn.next_at)).scalar()
    return next_at is None or next_at <= now


def lock(conn: Connection) -> float:
    """Let nobody else change alerts until the transaction ends; returns when the next look is due."""
    dialect_insert = sqlite_insert if conn.dialect.name == "sqlite" else postgres_insert
    conn.execute(dialect_insert(s.alert_turn).values(only_row=1, next_at=0.0).on_conflict_do_nothing())
    return float(conn.execute(select(_turn.next_at).with_for_update()).scalar_one())


def put_off(conn: Connection, next_at: float) -> None:
    """Say when the next look is due."""
    conn.execute(update(s.alert_turn).values(next_at=next_at))


def attempts(conn: Connection, since: float) -> tuple[int, int]:
    """Return how many attempts have ended since then, and how many of them for want of memory."""
    a = s.attempts.c
    query = select(func.count(), func.count(case((a.error_code == OUT_OF_MEMORY, 1)))).where(a.ended_at >= since)
    ended, out_of_memory = conn.execute(query).one()
    return int(ended), int(out_of_memory)


def worn(conn: Connection, gpu_ids: Collection[str], since: float) -> Sequence[Any]:
    """Return the events since then that tell of worn workers of these GPUs (`subject`, `data`), in order."""
    e = s.events.c
    of_gpus = e.subject.in_(list(gpu_ids))  # a GPU has few events, and they are indexed
    query = select(e.subject, e.data).where(of_gpus, e.type == "worker.worn", e.at >= since)
    return conn.execute(query.order_by(e.id)).all()


def failed_calls(conn: Connection) -> Sequence[Any]:
    """Return the calls of the hook for capacity that have failed and are to be tried again, in order."""
    c = s.capacity_calls.c
    query = select(c.id, c.action, c.tries, c.error).where(c.next_at.is_not(None), c.error.is_not(None))
    return conn.execute(query.order_by(c.id)).all()


def unresolved(conn: Connection) -> Sequence[Row[Any]]:
    """Return the alerts that fire, and those that would if their conditions lasted."""
    return conn.execute(select(s.alerts).where(_OPEN).order_by(_alerts.id)).all()


def add(conn: Connection, **values: Any) -> Row[Any]:
    """Insert an alert, and return it."""
    return conn.execute(insert(s.alerts).values(values).returning(*s.alerts.c)).one()


def change(conn: Connection, alert_id: str, **values: Any) -> Row[Any]:
    """Change an alert, and return it."""
    changed = update(s.alerts).where(_alerts.id == alert_id).values(values)
    return conn.execute(changed.returning(*s.alerts.c)).one()


def drop(conn: Connection, alert_ids: Collection[str]) -> None:
    """Delete alerts."""
    conn.execute(delete(s.alerts).where(_alerts.id.in_(list(alert_ids))))


def prune(conn: Connection, before: float) -> int:
    """Delete alerts that were over before then; returns how many."""
    return conn.execute(delete(s.alerts).where(_alerts.resolved_at < before)).rowcount


def told(conn: Connection, resolved_since: float, limit: int) -> Sequence[Row[Any]]:
    """Return the alerts that fire, then those that have ended since then; the newest of each first, `limit` in all."""
    query = select(s.alerts).where(_alerts.fired_at.is_not(None), _OPEN | (_alerts.resolved_at >= resolved_since))
    newest = (_alerts.resolved_at.is_not(None), _alerts.fired_at.desc(), _alerts.id.desc())
    return conn.execute(query.order_by(*newest).limit(limit)).all()
