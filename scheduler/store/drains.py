"""Statements about taking a GPU out of service and back. Each change of its state is an event of the same transaction.

Whoever changes a GPU here holds the lock of its row: see `machines.lock_gpus`.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, insert, select, update

from scheduler.drains import DrainOrder
from scheduler.records import Drain
from scheduler.states import DrainMode, GpuState, OnDeadline
from scheduler.store import eventlog, rows
from scheduler.store import schema as s


def begin(conn: Connection, gpu: Row[Any], order: DrainOrder, now: float) -> None:
    """active, faulted → draining; a GPU that drains or is drained stays so, and the new order replaces the old one.

    A release that was asked for before stands. Whoever the GPU was reserved for waits for another one.
    """
    known = gpu.state in (GpuState.DRAINING, GpuState.DRAINED)
    state = GpuState(gpu.state) if known else GpuState.DRAINING
    _set_state(conn, gpu.id, state, order.reason, order.actor, gpu.state_changed_at if known else now)
    drain = order.given_at(now)
    conn.execute(delete(s.drains).where(s.drains.c.gpu_id == gpu.id))
    columns = {column: getattr(drain, column) for column in Drain.__dataclass_fields__ if column != "stopped_at"}
    conn.execute(insert(s.drains).values(gpu_id=gpu.id, **columns))
    conn.execute(delete(s.reservations).where(s.reservations.c.gpu_id == gpu.id))
    if drain.mode is DrainMode.CHECKPOINT:
        request_release(conn, gpu.id, now)
    data = {"reason": order.reason, **columns}
    eventlog.append(conn, f"gpu.{state}", gpu.id, now, actor=order.actor, data=data)


def request_release(conn: Connection, gpu_id: str, now: float) -> int:
    """Ask the workers of a GPU to give their jobs back; returns how many jobs had not been asked for before."""
    c = s.leases.c
    asked = update(s.leases).where(c.gpu_id == gpu_id, c.release_requested_at.is_(None))
    return conn.execute(asked.values(release_requested_at=now)).rowcount


def resume(conn: Connection, gpu: Row[Any], actor: str, now: float) -> None:
    """draining, drained, faulted → active."""
    _set_state(conn, gpu.id, GpuState.ACTIVE, None, actor, now)
    conn.execute(delete(s.drains).where(s.drains.c.gpu_id == gpu.id))
    eventlog.append(conn, "gpu.active", gpu.id, now, actor=actor, data={"was": gpu.state, "reason": gpu.reason})


def fault(conn: Connection, gpu_id: str, reason: str, actor: str, now: float) -> None:
    """active → faulted, until an operator resumes it."""
    _set_state(conn, gpu_id, GpuState.FAULTED, reason, actor, now)
    conn.execute(delete(s.reservations).where(s.reservations.c.gpu_id == gpu_id))
    eventlog.append(conn, "gpu.faulted", gpu_id, now, actor=actor, data={"reason": reason})


def empty(conn: Connection) -> list[str]:
    """Return the draining GPUs with no open lease and no registered process, by id."""
    return list(conn.execute(select(s.gpus.c.id).where(*_EMPTY).order_by(s.gpus.c.id)).scalars())


def settle(conn: Connection, gpu_id: str, now: float) -> bool:
    """draining → drained; False when the GPU does not drain, or is not empty."""
    settled = conn.execute(
        update(s.gpus)
        .where(s.gpus.c.id == gpu_id, *_EMPTY)
        .values(state=GpuState.DRAINED, state_changed_at=now)
        .returning(s.gpus.c.actor, s.gpus.c.reason)
    ).one_or_none()
    if settled is None:
        return False
    eventlog.append(conn, "gpu.drained", gpu_id, now, actor=settled.actor, data={"reason": settled.reason})
    return True


def reopen(conn: Connection, gpu: Row[Any], now: float) -> None:
    """drained → draining: a process that was being started when the GPU was drained has appeared on it."""
    if gpu.state == GpuState.DRAINED:
        _set_state(conn, gpu.id, GpuState.DRAINING, gpu.reason, gpu.actor, now)
        eventlog.append(conn, "gpu.draining", gpu.id, now, actor=gpu.actor, data={"reason": gpu.reason})


def stop(conn: Connection, gpu_ids: Sequence[str], now: float | None) -> None:
    """Record when the stop of the host of these drained GPUs was asked for; None: it is not any more."""
    conn.execute(update(s.drains).where(s.drains.c.gpu_id.in_(gpu_ids)).values(stopped_at=now))


def welcome_back(conn: Connection, gpu_id: str, now: float) -> None:
    """drained → active, for a GPU whose host was stopped and has registered it again; others stay as they are."""
    stopped = exists().where(s.drains.c.gpu_id == gpu_id, s.drains.c.stopped_at.is_not(None))
    gpu = conn.execute(select(s.gpus).where(s.gpus.c.id == gpu_id, stopped)).one_or_none()
    if gpu is not None and gpu.state != GpuState.ACTIVE:
        resume(conn, gpu, gpu.actor, now)


def overdue(conn: Connection, now: float) -> list[tuple[str, OnDeadline]]:
    """Return the GPUs that still drain past their deadline, by id, each with what is to happen then."""
    query = select(s.gpus.c.id, s.drains.c.on_deadline).join(s.drains, s.drains.c.gpu_id == s.gpus.c.id)
    late = query.where(s.gpus.c.state == GpuState.DRAINING, s.drains.c.deadline_at <= now).order_by(s.gpus.c.id)
    return [(gpu_id, OnDeadline(on_deadline)) for gpu_id, on_deadline in conn.execute(late)]


def to_resume(conn: Connection, now: float) -> list[str]:
    """Return the GPUs whose time to resume has come, by id."""
    query = select(s.drains.c.gpu_id).where(s.drains.c.resume_at <= now).order_by(s.drains.c.gpu_id)
    return list(conn.execute(query).scalars())


def current(conn: Connection, gpu_id: str) -> Drain | None:
    """Return how a GPU is being drained, None when it is not."""
    row = conn.execute(select(s.drains).where(s.drains.c.gpu_id == gpu_id)).one_or_none()
    return None if row is None else rows.drain(row)


def _set_state(
    conn: Connection, gpu_id: str, state: GpuState, reason: str | None, actor: str | None, changed_at: float
) -> None:
    values = {"state": state, "reason": reason, "actor": actor, "state_changed_at": changed_at}
    conn.execute(update(s.gpus).where(s.gpus.c.id == gpu_id).values(**values))


_EMPTY = (
    s.gpus.c.state == GpuState.DRAINING,
    ~exists().where(s.leases.c.gpu_id == s.gpus.c.id),
    ~exists().where(s.workers.c.gpu_id == s.gpus.c.id),
)
