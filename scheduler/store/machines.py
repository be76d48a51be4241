"""Statements about GPUs, their workers and open leases."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Table,
    Text,
    and_,
    cast,
    delete,
    exists,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from scheduler.errors import NotFound
from scheduler.hangs import Stint
from scheduler.records import Gpu, GpuInfo, GpuSample, OpenLease, Progress, ServedModel, Worker
from scheduler.states import GpuState, JobStatus, Stage
from scheduler.store import eventlog, rows, script
from scheduler.store import schema as s
from scheduler.store.script import Statement

_GPUS = Statement("SELECT * FROM gpus ORDER BY id")
_WORKERS = Statement("SELECT * FROM workers ORDER BY id")
_LEASES = Statement("SELECT * FROM leases ORDER BY job_id")
_DRAINS = Statement("SELECT * FROM drains")
_RESERVATIONS = Statement("SELECT * FROM reservations")
_STINTS = select(s.leases).order_by(s.leases.c.job_id)


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
    facts["plans"] = list(info.plans)
    at_first = {"state": GpuState.ACTIVE, "state_changed_at": now}
    known = conn.execute(select(s.gpus.c.id).where(s.gpus.c.id == info.id)).one_or_none()
    _upsert(conn, s.gpus, info.id, {**facts, "seen_at": now}, at_first)
    if known is None:
        eventlog.append(conn, "gpu.registered", info.id, now, data=facts)


def sample(conn: Connection, gpu_id: str, look: GpuSample, now: float) -> bool:
    """Record the latest look at a GPU; False when it is not known (any more)."""
    values = {column: getattr(look, column) for column in GpuSample.__dataclass_fields__}
    return conn.execute(update(s.gpus).where(s.gpus.c.id == gpu_id).values(seen_at=now, **values)).rowcount == 1


def lock_gpu(conn: Connection, gpu_id: str) -> Row[Any]:
    """Return the GPU's row, locked until the transaction ends (SQLite: the whole database is); raises `NotFound`."""
    return lock_gpus(conn, [gpu_id])[0]


def lock_gpus(conn: Connection, gpu_ids: Sequence[str]) -> Sequence[Row[Any]]:
    """Do what `lock_gpu` does for several, in the order of their ids, so that two calls never deadlock."""
    found = lock_known_gpus(conn, gpu_ids)
    unknown = set(gpu_ids).difference(row.id for row in found)
    if unknown:
        raise NotFound(f"no GPU {min(unknown)[:80]}")
    return found


def lock_known_gpus(conn: Connection, gpu_ids: Sequence[str]) -> Sequence[Row[Any]]:
    """Do what `lock_gpus` does, for those of the GPUs that are known."""
    query = select(s.gpus).where(s.gpus.c.id.in_(gpu_ids)).order_by(s.gpus.c.id).with_for_update()
    return conn.execute(query).all()


def forgettable(conn: Connection, before: float) -> list[str]:
    """Return the GPUs that nothing was seen of since `before`, nor has a lease or a worker, by id.

    Those are active ones, and such whose host was stopped, but for the last of each kind: by it jobs are accepted that
    another of its kind is started for.
    """
    return list(conn.execute(select(s.gpus.c.id).where(*_forgettable(before)).order_by(s.gpus.c.id)).scalars())


def forget(conn: Connection, gpu_id: str, before: float, now: float) -> bool:
    """Forget a GPU that is still `forgettable`. The caller holds its lock, or a worker might be registering."""
    gone = conn.execute(delete(s.gpus).where(s.gpus.c.id == gpu_id, *_forgettable(before)).returning(s.gpus.c.seen_at))
    seen_at = gone.scalar()
    if seen_at is None:
        return False
    eventlog.append(conn, "gpu.forgotten", gpu_id, now, data={"seen_at": seen_at})
    return True


def _forgettable(before: float) -> tuple[ColumnElement[bool], ...]:
    stopped = exists().where(s.drains.c.gpu_id == s.gpus.c.id, s.drains.c.stopped_at.is_not(None))
    return (
        # What an operator or a fault has said must survive.
        (s.gpus.c.state == GpuState.ACTIVE) | (stopped & _has_successor()),
        s.gpus.c.seen_at < before,
        ~exists().where(s.leases.c.gpu_id == s.gpus.c.id),
        ~exists().where(s.workers.c.gpu_id == s.gpus.c.id),
    )


def _has_successor() -> ColumnElement[bool]:
    """Whether a GPU of the same kind and size, for the same model, was seen later."""
    gpu, later = s.gpus.c, s.gpus.alias("later")
    alike = [later.c[name] == gpu[name] for name in ("kind", "model", "total_bytes")]
    newer = (later.c.seen_at > gpu.seen_at) | ((later.c.seen_at == gpu.seen_at) & (later.c.id > gpu.id))
    return exists().where(*alike, newer)


def stale_reservations(conn: Connection, *, online_since: float) -> list[str]:
    """Return the jobs that do not wait, or not for a GPU that could start them, and yet have a reservation."""
    return list(conn.execute(select(s.reservations.c.job_id).where(_stale(online_since))).scalars())


def drop_stale_reservations(conn: Connection, *, online_since: float) -> list[str]:
    """Drop what `stale_reservations` finds; returns the jobs."""
    stale = select(s.reservations.c.gpu_id).where(_stale(online_since)).with_for_update(skip_locked=True)
    dropped = delete(s.reservations).where(s.reservations.c.gpu_id.in_(stale)).returning(s.reservations.c.job_id)
    return list(conn.execute(dropped).scalars())


def _stale(online_since: float) -> ColumnElement[bool]:
    c, g, w, j = s.reservations.c, s.gpus.c, s.workers.c, s.job_states.c
    held = exists().where(s.models.c.id == j.model, s.models.c.held_at.is_not(None))
    waits = exists().where(j.job_id == c.job_id, j.status == JobStatus.QUEUED, ~held)
    runs = _lists(g.plans, j.plan)
    serves = exists().where(
        g.id == c.gpu_id, g.state == GpuState.ACTIVE, g.seen_at >= online_since, j.job_id == c.job_id, runs
    )
    able = w.ready & w.condemned.is_(None) & ((w.model == j.model) | _lists(w.can_load, j.model))
    starts = exists().where(w.gpu_id == c.gpu_id, j.job_id == c.job_id, able)
    return ~and_(waits, serves, starts)


def _lists(names: Column[Any], name: Column[str]) -> ColumnElement[bool]:
    """Whether a JSON list of names has this one."""
    return cast(names, Text).contains('"' + name + '"')


def upsert_worker(conn: Connection, worker: Worker, now: float) -> None:
    """Register a worker process, or refresh it: readiness, resident bytes, sign of life."""
    facts = {column: getattr(worker, column) for column in Worker.__dataclass_fields__ if column != "id"}
    _upsert(conn, s.workers, worker.id, {**facts, "can_load": list(worker.can_load), "seen_at": now})


def worker(conn: Connection, worker_id: str) -> Worker | None:
    """Return a worker as it has registered, if it has."""
    row = conn.execute(select(s.workers).where(s.workers.c.id == worker_id)).one_or_none()
    return None if row is None else rows.worker(row)


def claimed_by(conn: Connection, worker_id: str, gpu_id: str) -> Iterable[Row[Any]]:
    """Return a worker's open leases: job, stage and reserved bytes, with the job's model, plan and memory class."""
    own, j = s.leases.c, s.job_states.c
    query = select(own.job_id, own.stage, own.reserved_bytes, j.model, j.plan, j.memory_class)
    held = query.join(s.job_states, j.job_id == own.job_id).where(own.gpu_id == gpu_id, own.worker_id == worker_id)
    return list(conn.execute(held.order_by(own.job_id)))


def reserve(conn: Connection, job_id: str, reserved_bytes: int) -> None:
    """Change what an open lease holds; the caller has locked its GPU."""
    conn.execute(update(s.leases).where(s.leases.c.job_id == job_id).values(reserved_bytes=reserved_bytes))


def condemn(conn: Connection, gpu_id: str, why: str, *, worker_id: str | None = None) -> int:
    """Give a GPU's workers, or one of them, no more jobs: their supervisor is to replace them. Returns how many."""
    w = s.workers.c
    chosen = update(s.workers).where(w.gpu_id == gpu_id, w.condemned.is_(None))
    if worker_id is not None:
        chosen = chosen.where(w.id == worker_id)
    return conn.execute(chosen.values(condemned=why)).rowcount


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


def workers_of(conn: Connection, gpu_id: str) -> list[str]:
    """Return the workers that are registered on a GPU, or hold a lease there."""
    registered = select(s.workers.c.id).where(s.workers.c.gpu_id == gpu_id)
    holding = select(s.leases.c.worker_id).where(s.leases.c.gpu_id == gpu_id)
    return sorted(conn.execute(registered.union(holding)).scalars())


def vital_signs(conn: Connection, gpu_id: str, worker_id: str) -> tuple[float | None, str | None, list[Stint]]:
    """Return when a worker was last heard (None: it was given up), what it is condemned for, and its leases."""
    w = s.workers.c
    worker = conn.execute(select(w.seen_at, w.condemned).where(w.id == worker_id)).one_or_none()
    held = conn.execute(_STINTS.where(s.leases.c.gpu_id == gpu_id, s.leases.c.worker_id == worker_id))
    seen_at, condemned = (None, None) if worker is None else (worker.seen_at, worker.condemned)
    return seen_at, condemned, [_stint(row) for row in held]


def idle_stints(conn: Connection, before: float) -> list[Stint]:
    """Return the leases with no progress since `before`, or not given back although that was asked for before it."""
    c = s.leases.c
    idle = conn.execute(_STINTS.where(or_(c.progress_at < before, c.release_requested_at < before)))
    return [_stint(row) for row in idle]


def gpus(conn: Connection, *, online_since: float, gpu_ids: Sequence[str] | None = None) -> list[Gpu]:
    """Return all GPUs, or those of `gpu_ids` that are known, with what belongs to them, by id."""

    def of(statement: Statement) -> list[Any]:
        return script.select(conn, statement, {})

    workers: dict[str, list[Worker]] = defaultdict(list)
    for row in of(_WORKERS):
        workers[row.gpu_id].append(rows.worker(row))
    leases: dict[str, list[OpenLease]] = defaultdict(list)
    for row in of(_LEASES):
        leases[row.gpu_id].append(rows.open_lease(row))
    drains = {row.gpu_id: rows.drain(row) for row in of(_DRAINS)}
    reservations = {row.gpu_id: rows.reservation(row) for row in of(_RESERVATIONS)}
    return [
        rows.gpu(
            row,
            online=row.seen_at >= online_since,
            drain=drains.get(row.id),
            reservation=reservations.get(row.id),
            workers=workers[row.id],
            leases=leases[row.id],
        )
        for row in of(_GPUS)
        if gpu_ids is None or row.id in gpu_ids
    ]


def _stint(row: Row[Any]) -> Stint:
    return Stint(
        job_id=row.job_id,
        gpu_id=row.gpu_id,
        worker_id=row.worker_id,
        lane=row.lane,
        predicted_seconds=row.predicted_seconds,
        expires_at=row.expires_at,
        release_requested_at=row.release_requested_at,
        progress_at=row.progress_at,
        progress=Progress(Stage(row.stage), row.step, row.steps, row.fraction),
    )


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
