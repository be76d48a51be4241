"""Statements about capacity: what is due, what was decided last, and the calls of the hook.

Whoever decides, or takes a call, locks the row of what was decided last first, so that one transaction at a time does.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from scheduler.states import JobStatus
from scheduler.store import schema as s

_states, _calls = s.job_states.c, s.capacity_calls.c
_GROUP = (_states.model, _states.plan, _states.gate, _states.memory_class)
_COUNTED = (*_GROUP, func.count().label("jobs"), func.sum(_states.est_seconds).label("seconds"))
_AT_FIRST = {"only_row": 1, "looked_at": 0.0, "since": 0.0, "wanted": 0, "online": 0, "missing": 0, "reason": ""}
_PRUNED_AT_ONCE = 1000


def due(conn: Connection, now: float) -> Sequence[Row[Any]]:
    """Return the queued jobs that are due, counted by model, plan, gate and memory class, with their seconds.

    Where no worker claims, nobody has put those in line yet whose time has come: they are counted too.
    """
    ready = conn.execute(select(*_COUNTED).where(s.READY).group_by(*_GROUP)).all()
    come = (_states.status == JobStatus.QUEUED, _states.not_before > 0, _states.not_before <= now)
    return [*ready, *conn.execute(select(*_COUNTED).where(*come).group_by(*_GROUP))]


def state(conn: Connection) -> Row[Any] | None:
    """Return what was decided last."""
    return conn.execute(select(s.capacity_state)).one_or_none()


def lock(conn: Connection) -> Row[Any]:
    """Return what was decided last, and let nobody else decide until the transaction ends."""
    dialect_insert = sqlite_insert if conn.dialect.name == "sqlite" else postgres_insert
    conn.execute(dialect_insert(s.capacity_state).values(_AT_FIRST).on_conflict_do_nothing())
    return conn.execute(select(s.capacity_state).with_for_update()).one()


def decided(conn: Connection, **values: Any) -> None:
    """Say what is decided now."""
    conn.execute(update(s.capacity_state).values(values))


def ask(conn: Connection, **values: Any) -> None:
    """Insert a call."""
    conn.execute(insert(s.capacity_calls).values(values))


def next_due(conn: Connection, now: float) -> Row[Any] | None:
    """Return the call that is to be made now, of several the oldest."""
    query = select(s.capacity_calls).where(_calls.next_at <= now)
    return conn.execute(query.order_by(_calls.asked_at, _calls.id).limit(1)).one_or_none()


def change(conn: Connection, call_id: str, **values: Any) -> Row[Any] | None:
    """Change a call that is not over, and return it; None where it is."""
    changed = update(s.capacity_calls).where(_calls.id == call_id, _calls.next_at.is_not(None)).values(values)
    return conn.execute(changed.returning(*s.capacity_calls.c)).one_or_none()


def last_start(conn: Connection) -> Row[Any] | None:
    """Return the start that was asked for last and not dropped."""
    query = select(s.capacity_calls).where(_calls.action == "start", _calls.dropped_at.is_(None))
    return conn.execute(query.order_by(_calls.asked_at.desc(), _calls.id.desc()).limit(1)).one_or_none()


def starts_in_vain(conn: Connection, before: float) -> int:
    """Return how many starts from before then, and after the last that has, have never brought what they were for."""
    done = (_calls.action == "start", _calls.done_at.is_not(None), _calls.asked_at < before)
    last = select(func.max(_calls.asked_at)).where(*done, _calls.arrived_at.is_not(None)).scalar_subquery()
    never = (_calls.arrived_at.is_(None), _calls.asked_at > func.coalesce(last, 0.0))
    return conn.execute(select(func.count()).select_from(s.capacity_calls).where(*done, *never)).scalar_one()


def arrived(conn: Connection, online: int, now: float) -> None:
    """Record of starts that as many GPUs are there as they were to make."""
    waiting = (_calls.action == "start", _calls.arrived_at.is_(None), _calls.online + _calls.count <= online)
    conn.execute(update(s.capacity_calls).where(*waiting).values(arrived_at=now))


def stopping_hosts(conn: Connection) -> set[str]:
    """Return the hosts whose stop has been asked for and is not done."""
    query = select(_calls.host).where(_calls.action == "stop", _calls.next_at.is_not(None))
    return {host for host in conn.execute(query).scalars() if host is not None}


def works(conn: Connection, host: str) -> bool:
    """Tell whether a job runs on any GPU of a host."""
    query = select(s.leases.c.job_id).join(s.gpus, s.gpus.c.id == s.leases.c.gpu_id).where(s.gpus.c.host == host)
    return conn.execute(query.limit(1)).first() is not None


def calls(conn: Connection, limit: int) -> Sequence[Row[Any]]:
    """Return the calls, the newest first."""
    newest = (_calls.asked_at.desc(), _calls.id.desc())
    return conn.execute(select(s.capacity_calls).order_by(*newest).limit(limit)).all()


def prune(conn: Connection, before: float) -> int:
    """Delete calls from before then that nothing is to be done for; returns how many."""
    over = select(_calls.id).where(_calls.next_at.is_(None), _calls.asked_at < before).limit(_PRUNED_AT_ONCE)
    return conn.execute(delete(s.capacity_calls).where(_calls.id.in_(over))).rowcount
