"""Writing new jobs: the immutable rows, their states, keys and events, in one transaction for all of a group."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from scheduler.limits import TenantLimits
from scheduler.records import Gpu, GpuInfo, GpuSample, Job, NewJob, ServedModel, Worker
from scheduler.shape import Shape
from scheduler.states import GpuState
from scheduler.store.rows import as_json
from scheduler.store.script import Batch, Statement, Trip

_NOW = (Statement("SELECT {now} AS now"),)
# Of several calls with a new key, one inserts it and the others find it. (SQLite: the whole database is locked.)
_LOCK_KEY = Statement("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))", postgres_only=True)
_KEY = Statement("SELECT payload_sha256, job_id FROM idempotency_keys WHERE tenant = :tenant AND key = :key")
_TENANT = Statement(
    "SELECT id, share, max_queued, max_running, max_priority, virtual_at FROM tenants WHERE id = :tenant {for_update}"
)
_MOVE_CLOCK = Statement("UPDATE tenants SET virtual_at = :virtual_at WHERE id = :tenant")
_QUEUED = (
    Statement("SELECT count(*) AS jobs FROM (SELECT 1 FROM job_states WHERE status = 'queued' LIMIT :limit) counted"),
)
_QUEUED_OF = (
    Statement(
        "SELECT count(*) AS jobs FROM"
        " (SELECT 1 FROM job_states WHERE tenant = :tenant AND status = 'queued' LIMIT :limit) counted"
    ),
)
# Two counts that look at indexes alone: a long queue is not read row by row.
_DUE = (
    Statement(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM job_states WHERE status = 'queued' LIMIT :limit) counted)"
        " - (SELECT count(*) FROM"
        " (SELECT 1 FROM job_states WHERE status = 'queued' AND not_before > 0 LIMIT :limit) deferred) AS jobs"
    ),
)
_DUE_OF = (
    Statement(
        "SELECT count(*) AS jobs FROM (SELECT 1 FROM job_states"
        " WHERE tenant = :tenant AND status = 'queued' AND not_before = 0 LIMIT :limit) counted"
    ),
)
_SECONDS = (
    Statement(
        "SELECT avg(est_seconds) AS seconds"
        " FROM (SELECT est_seconds FROM job_states WHERE status = 'queued' AND not_before = 0 LIMIT :limit) counted"
    ),
)
_SECONDS_OF = (
    Statement(
        "SELECT avg(est_seconds) AS seconds FROM (SELECT est_seconds FROM job_states"
        " WHERE tenant = :tenant AND status = 'queued' AND not_before = 0 LIMIT :limit) counted"
    ),
)
_FIRST = (
    Statement("SELECT min(not_before) - {now} AS seconds FROM job_states WHERE status = 'queued' AND not_before > 0"),
)
_FIRST_OF = (
    Statement(
        "SELECT min(not_before) - {now} AS seconds FROM job_states"
        " WHERE tenant = :tenant AND status = 'queued' AND not_before > 0"
    ),
)
# What a footprint and a room are made of, and nothing that changes every few seconds: then it is made once.
_FLEET = (
    Statement(
        """
        SELECT id, host, model, kind, name, plans, total_bytes, headroom_bytes, state,
               seen_at >= {now} - :online_seconds AS online
        FROM gpus WHERE seen_at >= {now} - :memory_seconds
            OR id IN (SELECT gpu_id FROM drains WHERE stopped_at IS NOT NULL)
        ORDER BY id
        """
    ),
    Statement("SELECT id, gpu_id, pid, model, resident_bytes, ready, plan, can_load FROM workers ORDER BY id"),
    Statement("SELECT id, architecture, weights_bytes, fingerprint, held_reason FROM models"),
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What jobs are measured against: the models that workers have registered, by id, and the GPUs."""

    models: Mapping[str, ServedModel]
    gpus: Sequence[Gpu]


@dataclass(slots=True)
class TenantClock:
    """The virtual clock of a tenant with a share: where its next job stands in time."""

    tenant: str
    share: float
    virtual_at: float

    def submitted(self, now: float, ready_at: float, seconds: float) -> float:
        """Return the virtual submit time of a job that takes `seconds`, and move on by them over the share.

        A job for later counts from then, but uses up no more of the share than its seconds.
        """
        at = max(ready_at, self.virtual_at)
        self.virtual_at = max(now, self.virtual_at) + seconds / self.share
        return at


@dataclass(frozen=True, slots=True)
class Standing:
    """What a submit needs to know of a tenant: its own limits, and its clock if it has a share."""

    limits: TenantLimits
    clock: TenantClock | None


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts the queue, inside a transaction."""

    trip: Trip

    def queued(self, limit: int, tenant: str | None = None) -> int:
        """Return how many jobs are queued, of all or of one tenant, counting no further than `limit`."""
        if tenant is None:
            return int(self.trip.row(_QUEUED, {"limit": limit}).jobs)
        return int(self.trip.row(_QUEUED_OF, {"limit": limit, "tenant": tenant}).jobs)

    def due(self, limit: int, tenant: str | None = None) -> int:
        """Return how many queued jobs are not put off, of all or of one tenant, counting no further than `limit`."""
        if tenant is None:
            return int(self.trip.row(_DUE, {"limit": limit}).jobs)
        return int(self.trip.row(_DUE_OF, {"limit": limit, "tenant": tenant}).jobs)

    def mean_seconds(self, limit: int, tenant: str | None = None) -> float:
        """Return the mean of the estimated seconds of up to `limit` jobs that `due` counts."""
        if tenant is None:
            return float(self.trip.row(_SECONDS, {"limit": limit}).seconds or 0.0)
        return float(self.trip.row(_SECONDS_OF, {"limit": limit, "tenant": tenant}).seconds or 0.0)

    def seconds_to_first(self, tenant: str | None = None) -> float | None:
        """Return in how many seconds the first of the jobs that are put off is due; None if there are none."""
        row = self.trip.row(_FIRST, {}) if tenant is None else self.trip.row(_FIRST_OF, {"tenant": tenant})
        return None if row.seconds is None else max(0.0, float(row.seconds))


def begin(trip: Trip, new: Sequence[NewJob], *, online_seconds: float, memory_seconds: float) -> tuple[float, Fleet]:
    """Lock the keys of `new` until the transaction ends; returns the database's time after that, and the fleet.

    The fleet is without its samples and leases; a GPU not seen for `memory_seconds` is no part of it, and one not seen
    for `online_seconds` is offline.
    """
    names = sorted({f"{one.tenant}/{one.idempotency_key}" for one in new if one.idempotency_key is not None})
    trip.each(_LOCK_KEY, [{"name": name} for name in names])  # in order, lest two groups wait for each other
    limits = {"online_seconds": online_seconds, "memory_seconds": memory_seconds}
    now, gpus, workers, models = trip.run((*_NOW, *_FLEET), limits)
    processes = [(*row[:-1], tuple(as_json(row.can_load))) for row in workers.rows]
    cards = [tuple(row._replace(plans=tuple(as_json(row.plans)))) for row in gpus.rows]
    fleet = _fleet(tuple(cards), tuple(processes), tuple(map(tuple, models.rows)))
    return float(now.row.now), fleet


def known_keys(trip: Trip, new: Sequence[NewJob]) -> dict[tuple[str, str | None], tuple[str, str]]:
    """Return (payload_sha256, job_id) of each (tenant, key) of `new` that was used before."""
    keyed = [one for one in new if one.idempotency_key is not None]
    found = trip.each(_KEY, [{"tenant": one.tenant, "key": one.idempotency_key} for one in keyed])
    return {
        (one.tenant, one.idempotency_key): (done.row.payload_sha256, done.row.job_id)
        for one, done in zip(keyed, found, strict=True)
        if done.row is not None
    }


def standings(trip: Trip, tenants: Sequence[str]) -> dict[str, Standing]:
    """Return (and lock) what is known of those tenants that have a row; `tenants` must be sorted."""
    found = [done.row for done in trip.each(_TENANT, [{"tenant": tenant} for tenant in tenants])]
    return {row.id: _standing(row) for row in found if row is not None}


def _standing(row: Any) -> Standing:
    limits = TenantLimits(row.share, row.max_queued, row.max_running, row.max_priority)
    return Standing(limits, TenantClock(row.id, row.share, row.virtual_at) if row.share else None)


@lru_cache(maxsize=4)
def _fleet(
    gpus: tuple[tuple[Any, ...], ...], workers: tuple[tuple[Any, ...], ...], models: tuple[tuple[Any, ...], ...]
) -> Fleet:
    by_gpu: dict[str, list[Worker]] = {}
    for id_, gpu_id, pid, model, resident_bytes, ready, plan, can_load in workers:
        worker = Worker(id_, gpu_id, pid, model, resident_bytes, bool(ready), can_load, plan)
        by_gpu.setdefault(gpu_id, []).append(worker)
    return Fleet(
        {row[0]: ServedModel(*row) for row in models},
        [_gpu(row, by_gpu.get(row[0], [])) for row in gpus],
    )


def _gpu(row: tuple[Any, ...], workers: list[Worker]) -> Gpu:
    return Gpu(
        info=GpuInfo(*row[:8]),
        state=GpuState(row[8]),
        reason=None,
        actor=None,
        state_changed_at=0.0,
        sample=GpuSample(None, None),
        seen_at=0.0,
        online=bool(row[9]),
        drain=None,
        reservation=None,
        workers=tuple(workers),
        leases=(),
    )


def insert(trip: Trip, jobs: Sequence[tuple[NewJob, Job]], moved: Iterable[TenantClock]) -> None:
    """Move the tenants' clocks, insert jobs as queued, and commit."""
    trip.each(_MOVE_CLOCK, [{"tenant": clock.tenant, "virtual_at": clock.virtual_at} for clock in moved])
    trip.insert(
        Batch("jobs", [_job(new, job) for new, job in jobs]),
        Batch("job_states", [_state(job) for _, job in jobs]),
        Batch("idempotency_keys", [_key(new) for new, _ in jobs if new.idempotency_key is not None]),
        Batch("events", [_event(job) for _, job in jobs], {"position": "{position}"}),
    )


def _job(new: NewJob, job: Job) -> dict[str, object]:
    return {
        "id": job.id,
        "tenant": job.tenant,
        "model": job.model,
        "prompt": job.prompt,
        "params": job.params.to_dict(),
        "metadata": dict(job.metadata),
        "image_key": job.image_key,
        "max_attempts": job.max_attempts,
        "created_at": job.created_at,
        "retry_of": job.retry_of,
        "webhook_url": job.webhook_url,
        "webhook_events": list(job.webhook_events) if job.webhook_url else None,
        "result_ttl_seconds": job.result_ttl_seconds,
        "traceparent": new.traceparent,
        "asked_not_before": new.not_before or None,
    }


def _state(job: Job) -> dict[str, object]:
    need = job.footprint
    return {
        "job_id": job.id,
        "tenant": job.tenant,
        "gate": job.gate,
        "status": job.status.value,
        "model": job.model,
        "priority": job.priority,
        "plan": need.plan,
        "plan_reason": job.plan_reason,
        "shape": Shape.of(job.params).key,
        "est_model_bytes": need.model_bytes,
        "est_working_bytes": need.working_bytes,
        "est_seconds": need.seconds,
        "weight": job.weight,
        "virtual_at": job.virtual_at,
        "rank": job.rank,
        "memory_class": job.memory_class,
        "steps": job.params.num_inference_steps,
        "not_before": job.not_before,
        "ready_at": job.ready_at,
        "deadline_at": job.deadline_at,
        "lease": 0,
        "attempts": 0,
        "version": 1,
        "notices": [],
        "start_window": job.window,
    }


def _key(new: NewJob) -> dict[str, object]:
    return {
        "tenant": new.tenant,
        "key": new.idempotency_key,
        "payload_sha256": new.payload_sha256,
        "job_id": new.id,
    }


def _event(job: Job) -> dict[str, object]:
    return {
        "at": job.created_at,
        "type": "job.queued",
        "subject": job.id,
        "tenant": job.tenant,
        "data": {"priority": job.priority, "plan": job.footprint.plan, "not_before": job.not_before},
    }
