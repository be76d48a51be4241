"""Statements about GPUs, their workers and open leases."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from scheduler.errors import NotFound
from scheduler.records import Gpu, GpuInfo, GpuSample, OpenLease, ServedModel, Worker
from scheduler.states import GpuState
from scheduler.store import rows
from scheduler.store import schema as s


def upsert_model(conn: Connection, model: ServedModel, now: float) -> None:
    """Register a model, or refresh what is known of it."""
    values = {
        "architecture": model.architecture,
        "weights_bytes": model.weights_bytes,
        "fingerprint": model.fingerprint,
        "seen_at": now,
    }
    _upsert(conn, s.models, model.id, values)


def upsert_gpu(conn: Connection, info: GpuInfo, now: float) -> None:
    """Register a GPU as active, or refresh its facts: an existing state (a drain) survives a restart."""
    facts = {column: getattr(info, column) for column in GpuInfo.__dataclass_fields__ if column != "id"}
    at_first = {"state": GpuState.ACTIVE, "state_changed_at": now}
    _upsert(conn, s.gpus, info.id, {**facts, "seen_at": now}, at_first)


def sample(conn: Connection, gpu_id: str, look: GpuSample, now: float) -> None:
    """Record the latest look at a GPU."""
    values = {column: getattr(look, column) for column in GpuSample.__dataclass_fields__}
    conn.execute(update(s.gpus).where(s.gpus.c.id == gpu_id).values(seen_at=now, **values))


def lock_gpu(conn: Connection, gpu_id: str) -> Row[tuple[object, ...]]:
    """Return the GPU's row, locked until the transaction ends (SQLite: the whole database is); raises `NotFound`."""
    row = conn.execute(select(s.gpus).where(s.gpus.c.id == gpu_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"no GPU {gpu_id}")
    return row


def committed_bytes(conn: Connection, gpu_id: str) -> int:
    """Return what the ledger has promised on a GPU: resident processes plus open leases."""
    resident = select(func.coalesce(func.sum(s.workers.c.resident_bytes), 0)).where(s.workers.c.gpu_id == gpu_id)
    leased = select(func.coalesce(func.sum(s.leases.c.reserved_bytes), 0)).where(s.leases.c.gpu_id == gpu_id)
    return int(conn.execute(resident).scalar_one()) + int(conn.execute(leased).scalar_one())


def set_state(
    conn: Connection, gpu_id: str, state: GpuState, reason: str | None, actor: str | None, now: float
) -> None:
    """Set a GPU's administrative state."""
    conn.execute(
        update(s.gpus)
        .where(s.gpus.c.id == gpu_id)
        .values(state=state, reason=reason, actor=actor, state_changed_at=now)
    )


def settle_drains(conn: Connection, now: float) -> list[str]:
    """draining → drained for each GPU with no open lease and no registered process; returns their ids."""
    settled = conn.execute(
        update(s.gpus)
        .where(
            s.gpus.c.state == GpuState.DRAINING,
            ~exists().where(s.leases.c.gpu_id == s.gpus.c.id),
            ~exists().where(s.workers.c.gpu_id == s.gpus.c.id),
        )
        .values(state=GpuState.DRAINED, state_changed_at=now)
        .returning(s.gpus.c.id)
    )
    return list(settled.scalars())


def reopen_drain(conn: Connection, gpu_id: str, now: float) -> None:
    """drained → draining: a process that was being started when the GPU was drained has appeared on it."""
    conn.execute(
        update(s.gpus)
        .where(s.gpus.c.id == gpu_id, s.gpus.c.state == GpuState.DRAINED)
        .values(state=GpuState.DRAINING, state_changed_at=now)
    )


def upsert_worker(conn: Connection, worker: Worker, now: float) -> None:
    """Register a worker process, or refresh it: readiness, resident bytes, sign of life."""
    facts = {column: getattr(worker, column) for column in Worker.__dataclass_fields__ if column != "id"}
    _upsert(conn, s.workers, worker.id, {**facts, "seen_at": now})


def ready_model(conn: Connection, worker_id: str, gpu_id: str) -> str | None:
    """Return the model a worker has loaded on a GPU; None when it is not ready, or was given up."""
    w = s.workers.c
    query = select(w.model).where(w.id == worker_id, w.gpu_id == gpu_id, w.ready)
    return conn.execute(query).scalar()


def touch_worker(conn: Connection, worker_id: str, now: float) -> bool:
    """Record a sign of life; False when the worker was given up."""
    seen = conn.execute(update(s.workers).where(s.workers.c.id == worker_id).values(seen_at=now))
    return seen.rowcount == 1


def delete_worker(conn: Connection, worker_id: str, *, seen_before: float = math.inf) -> bool:
    """Forget a worker process that is gone; False when it was heard at or after `seen_before`."""
    w = s.workers.c
    return conn.execute(delete(s.workers).where(w.id == worker_id, w.seen_at < seen_before)).rowcount == 1


def silent_workers(conn: Connection, before: float) -> list[str]:
    """Return workers without a sign of life since `before`."""
    return list(conn.execute(select(s.workers.c.id).where(s.workers.c.seen_at < before)).scalars())


def gpus(conn: Connection, *, online_since: float) -> list[Gpu]:
    """Return all GPUs with their workers and leases, by id."""
    workers: dict[str, list[Worker]] = defaultdict(list)
    for row in conn.execute(select(s.workers).order_by(s.workers.c.id)):
        workers[row.gpu_id].append(rows.worker(row))
    leases: dict[str, list[OpenLease]] = defaultdict(list)
    for row in conn.execute(select(s.leases).order_by(s.leases.c.job_id)):
        leases[row.gpu_id].append(rows.open_lease(row))
    return [
        rows.gpu(row, workers[row.id], leases[row.id], online=row.seen_at >= online_since)
        for row in conn.execute(select(s.gpus).order_by(s.gpus.c.id))
    ]


def _upsert(
    conn: Connection,
    table: Table,
    key: str,
    values: Mapping[str, Any],
    at_first: Mapping[str, Any] | None = None,
) -> None:
    insert = sqlite_insert if conn.dialect.name == "sqlite" else postgres_insert
    statement = insert(table).values(id=key, **values, **(at_first or {}))
    conn.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
