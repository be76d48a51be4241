"""Statements about the jobs that wait for a window."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, case, select, update

from scheduler.states import JobStatus
from scheduler.store import claims
from scheduler.store import schema as s
from scheduler.store.script import Trip
from scheduler.store.switches import switch

_BATCH = 500
_states = s.job_states.c
_HELD = (
    select(
        _states.job_id,
        s.jobs.c.asked_not_before,
        _states.weight,
        _states.est_seconds,
        _states.priority,
        _states.virtual_at,
    )
    .join(s.jobs, s.jobs.c.id == _states.job_id)
    .where(_states.status == JobStatus.QUEUED, _states.start_window.is_not(None))
    .order_by(_states.job_id)
    .limit(_BATCH)
    .with_for_update(of=s.job_states)
)
_ANY_DUE = select(_states.job_id).where(s.FOR_WINDOW, _states.not_before <= bindparam("now")).limit(1)
_MOVE = (
    update(s.job_states)
    .where(_states.job_id == bindparam("id"))
    .values(
        not_before=bindparam("start"),
        ready_at=case((_states.started_at.is_(None), bindparam("ready")), else_=_states.ready_at),
        virtual_at=bindparam("virtual"),
        rank=bindparam("place"),
    )
)


class Held(NamedTuple):
    """A queued job of the window, with what its rank is made of, and the earliest start that its caller named."""

    job_id: str
    asked_not_before: float | None
    weight: float
    est_seconds: float
    priority: float
    virtual_at: float


class Place(NamedTuple):
    """When a queued job of the window may start, and its place in the order."""

    job_id: str
    not_before: float
    ready_at: float
    virtual_at: float
    rank: float


def any_due(conn: Connection, now: float) -> bool:
    """Tell whether a job of the window could start now but for that."""
    return conn.execute(_ANY_DUE, {"now": now}).first() is not None


def put_off(trip: Trip, now: float, opens_at: float) -> int:
    """Put off the jobs of the window that could start now; returns how many there were."""
    return trip.run((claims.PUT_OFF,), {"now": now, "opens_at": opens_at})[0].rowcount


def held(conn: Connection, after: str) -> Sequence[Held]:
    """Return (and lock) the next queued jobs of the window, in the order of their ids; none after the last."""
    return [Held._make(row) for row in conn.execute(_HELD.where(_states.job_id > after))]


def move(conn: Connection, places: Sequence[Place]) -> None:
    """Give queued jobs, whose rows are locked, other times and places."""
    if places:
        values = [
            {"id": one.job_id, "start": one.not_before, "ready": one.ready_at, "virtual": one.virtual_at}
            | {"place": one.rank}
            for one in places
        ]
        conn.execute(_MOVE, values)


def signature(conn: Connection) -> str | None:
    """Return the windows by which jobs have been put off."""
    return conn.execute(select(s.queue_state.c.windows_signature)).scalar()


def sign(conn: Connection, windows: str | None) -> None:
    """Remember the windows by which jobs are put off from now on."""
    switch(conn, windows_signature=windows)
