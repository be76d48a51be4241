"""From rows to records: the one place that knows both."""

import json
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, select

from scheduler.footprint import Footprint
from scheduler.params import VideoParams
from scheduler.records import (
    Attempt,
    Drain,
    Gpu,
    GpuInfo,
    GpuSample,
    Job,
    JobError,
    Measured,
    Notice,
    OpenLease,
    Progress,
    Reservation,
    Result,
    Worker,
)
from scheduler.states import DrainMode, GpuState, JobStatus, OnDeadline, Outcome, Stage, Window
from scheduler.store import schema as s

_JOB_COLUMNS: list[ColumnElement[Any]] = [
    *s.jobs.c,
    *(c for c in s.job_states.c if c.name not in ("job_id", "tenant", "model", "steps")),
    s.leases.c.stage,
    s.leases.c.step,
    s.leases.c.steps,
    s.leases.c.fraction,
    s.leases.c.reports,
    s.attempts.c.gpu_id,
    s.gpus.c.name.label("gpu_name"),
    s.attempts.c.gpu_kind,
    s.attempts.c.resumed_from_step,
    s.attempts.c.vram_peak_bytes,
    s.attempts.c.run_seconds,
    s.attempts.c.working_peak_bytes,
    s.attempts.c.steps.label("run_steps"),
    s.attempts.c.step_seconds,
    s.attempts.c.fixed_seconds,
    s.attempts.c.sharing,
    s.attempts.c.energy_joules,
    s.attempts.c.stage_seconds,
    s.checkpoints.c.step.label("checkpoint_step"),
    *(c.label(f"result_{c.name}") for c in s.results.c),
]


def select_jobs() -> Select[Any]:
    """Return the query that `job` reads rows of: a job with its open lease, last attempt, checkpoint and result."""
    last_attempt = (s.attempts.c.job_id == s.jobs.c.id) & (s.attempts.c.lease == s.job_states.c.lease)
    source = (
        s.jobs.join(s.job_states, s.job_states.c.job_id == s.jobs.c.id)
        .outerjoin(s.leases, s.leases.c.job_id == s.jobs.c.id)
        .outerjoin(s.attempts, last_attempt)
        .outerjoin(s.gpus, s.gpus.c.id == s.attempts.c.gpu_id)
        .outerjoin(s.checkpoints, s.checkpoints.c.job_id == s.jobs.c.id)
        .outerjoin(s.results, s.results.c.job_id == s.jobs.c.id)
    )
    return select(*_JOB_COLUMNS).select_from(source)


def job(row: Row[Any]) -> Job:
    """Read a row of `select_jobs`."""
    return Job(
        id=row.id,
        tenant=row.tenant,
        gate=row.gate,
        model=row.model,
        prompt=row.prompt,
        params=VideoParams.from_dict(row.params),
        metadata=row.metadata,
        image_key=row.image_key,
        priority=row.priority,
        footprint=Footprint(row.plan, row.est_model_bytes, row.est_working_bytes, row.est_seconds),
        plan_reason=row.plan_reason,
        weight=row.weight,
        virtual_at=row.virtual_at,
        rank=row.rank,
        memory_class=row.memory_class,
        status=JobStatus(row.status),
        version=(row.version, row.reports or 0),
        progress=_progress(row) if row.stage else None,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        not_before=row.not_before,
        ready_at=row.ready_at,
        window=Window(row.start_window) if row.start_window else None,
        cancel_requested=row.cancel_requested_at is not None,
        deadline_at=row.deadline_at,
        retry_of=row.retry_of,
        webhook_url=row.webhook_url,
        webhook_events=tuple(row.webhook_events or ()),
        result_ttl_seconds=row.result_ttl_seconds,
        gpu_id=row.gpu_id,
        gpu_name=row.gpu_name,
        gpu_kind=row.gpu_kind,
        resumed_from_step=row.resumed_from_step,
        checkpoint_step=row.checkpoint_step,
        notices=tuple(Notice(**one) for one in row.notices),
        measured=_measured(row, row.run_steps),
        error=_error(row),
        result=_result(row) if row.result_job_id else None,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def attempt(row: Row[Any]) -> Attempt:
    """Read a row of the attempts table."""
    return Attempt(
        number=row.number,
        fence=row.lease,
        gpu_id=row.gpu_id,
        worker_id=row.worker_id,
        plan=row.plan,
        shape=row.shape,
        gpu_kind=row.gpu_kind,
        predicted_vram_bytes=row.predicted_vram_bytes,
        predicted_seconds=row.predicted_seconds,
        resumed_from_step=row.resumed_from_step,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=Outcome(row.outcome) if row.outcome else None,
        measured=_measured(row, row.steps),
        error=_error(row),
    )


def gpu(
    row: Any,
    *,
    online: bool,
    drain: Drain | None,
    reservation: Reservation | None,
    workers: list[Worker],
    leases: list[OpenLease],
) -> Gpu:
    """Read a row of the gpus table, with what belongs to it."""
    return Gpu(
        info=GpuInfo(
            row.id,
            row.host,
            row.model,
            row.kind,
            row.name,
            tuple(as_json(row.plans)),
            row.total_bytes,
            row.headroom_bytes,
        ),
        state=GpuState(row.state),
        reason=row.reason,
        actor=row.actor,
        state_changed_at=row.state_changed_at,
        sample=GpuSample(
            row.used_bytes,
            row.free_bytes,
            row.utilization_percent,
            row.temperature_celsius,
            row.problem,
            row.foreign_bytes,
            row.power_watts,
        ),
        seen_at=row.seen_at,
        online=online,
        drain=drain,
        reservation=reservation,
        workers=tuple(workers),
        leases=tuple(leases),
    )


def worker(row: Any) -> Worker:
    """Read a row of the workers table."""
    ready = bool(row.ready) and row.condemned is None  # one that is to be replaced gets no job
    can_load = tuple(as_json(row.can_load))
    return Worker(row.id, row.gpu_id, row.pid, row.model, row.resident_bytes, ready, can_load, row.plan)


def open_lease(row: Any) -> OpenLease:
    """Read a row of the leases table."""
    return OpenLease(
        job_id=row.job_id,
        fence=row.lease,
        worker_id=row.worker_id,
        lane=row.lane,
        reserved_bytes=row.reserved_bytes,
        started_at=row.started_at,
        predicted_seconds=row.predicted_seconds,
        expires_at=row.expires_at,
        release_requested=row.release_requested_at is not None,
        progress_at=row.progress_at,
        progress=_progress(row),
    )


def drain(row: Any) -> Drain:
    """Read a row of the drains table."""
    return Drain(
        DrainMode(row.mode), row.asked_at, row.deadline_at, OnDeadline(row.on_deadline), row.resume_at, row.stopped_at
    )


def reservation(row: Any) -> Reservation:
    """Read a row of the reservations table."""
    return Reservation(row.job_id, row.reserved_bytes, row.start_at, row.made_at)


def as_json(value: Any) -> Any:
    """Read a JSON column of a row from the driver itself: PostgreSQL's has read it, SQLite's hands over the text."""
    return json.loads(value) if isinstance(value, str) else value


def _progress(row: Any) -> Progress:
    return Progress(Stage(row.stage), row.step, row.steps, row.fraction)


def _measured(row: Row[Any], steps: int | None) -> Measured | None:
    if row.run_seconds is None:
        return None
    return Measured(
        vram_peak_bytes=row.vram_peak_bytes,
        run_seconds=row.run_seconds,
        working_peak_bytes=row.working_peak_bytes,
        steps=steps,
        step_seconds=row.step_seconds,
        fixed_seconds=row.fixed_seconds,
        sharing=row.sharing or 1,
        energy_joules=row.energy_joules,
        stage_seconds=row.stage_seconds or {},
    )


def _error(row: Row[Any]) -> JobError | None:
    return JobError(row.error_code, row.error_message) if row.error_code else None


def _result(row: Row[Any]) -> Result:
    values = {c.name: getattr(row, f"result_{c.name}") for c in s.results.c if c.name != "job_id"}
    return Result(expired=values.pop("expired_at") is not None, **values)
