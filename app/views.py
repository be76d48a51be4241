"""From the scheduler's records to the API's objects."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from app import schemas as api
from scheduler import catalog, placement
from scheduler.control import QueueState
from scheduler.drains import DrainPreview
from scheduler.events import Event
from scheduler.explain import QueueInfo
from scheduler.footprint import Footprint
from scheduler.outlook import Span
from scheduler.params import PRIORITIES, PROMPT_MAX_CHARS, Range
from scheduler.prices import UNPRICED, Prices, cost
from scheduler.records import Drain, Gpu, Job, OpenLease, Progress, Reservation, ServedModel, Worker
from scheduler.samples import Level, Point, Series
from scheduler.states import JobStatus
from scheduler.waits import WaitReason

_LAST_TIME = datetime(9999, 12, 31, tzinfo=UTC).timestamp()  # a long queue of slow jobs may reach beyond


def time_text(seconds: float) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def job_etag(job: Job, queue: QueueInfo | None) -> str:
    """Return a weak tag that changes with the job and its place in the queue, not with each second of an ETA."""
    place = f"-{queue.position}-{queue.wait.code}" if queue else ""
    return f'W/"{job.version[0]}-{job.version[1]}{place}"'


def job(record: Job, queue: QueueInfo | None, base_url: str, prices: Prices = UNPRICED) -> api.Job:
    """Return a job as the API shows it; `base_url` ends without a slash. Without its GPU's price it has no cost."""
    ended_or_running = record.status is not JobStatus.QUEUED
    return api.Job(
        id=record.id,
        tenant=record.tenant,
        status=record.status,
        stage=record.progress.stage if record.progress else None,
        progress=_job_progress(record),
        model=record.model,
        prompt=record.prompt,
        params=api.JobParams(**record.params.to_dict()),
        priority=record.priority,
        metadata=dict(record.metadata),
        estimate=estimate(record.footprint, record.weight, record.plan_reason),
        queue=_queue(queue) if queue else None,
        attempts=record.attempts,
        max_attempts=record.max_attempts,
        cancel_requested=record.cancel_requested,
        deadline=maybe_time(record.deadline_at),
        retry_of=record.retry_of,
        webhook_url=record.webhook_url,
        webhook_events=list(record.webhook_events),
        result_ttl_seconds=record.result_ttl_seconds,
        gpu=record.gpu_id if ended_or_running else None,
        resumed_from_step=record.resumed_from_step,
        checkpoint_step=record.checkpoint_step,
        notices=[api.Notice(at=time_text(one.at), code=one.code, message=one.message) for one in record.notices],
        measured=_measured(record, prices) if record.status.ended else None,
        error=api.Failure(code=record.error.code, message=record.error.message) if record.error else None,
        video=_video(record, base_url),
        not_before=None if ended_or_running else maybe_time(record.not_before or None),
        window=record.window,
        created_at=time_text(record.created_at),
        started_at=maybe_time(record.started_at),
        finished_at=maybe_time(record.finished_at),
    )


def model(served: ServedModel, presets: Sequence[api.Preset], image: api.ImageLimits) -> api.Model:
    """Return a served model with its limits, its defaults and `presets`; `image` is what is taken as one."""
    architecture = catalog.architecture(served.architecture)
    limits = {
        field.name: _limit(getattr(architecture.limits, field.name), getattr(architecture.defaults, field.name))
        for field in fields(architecture.limits)
    }
    defaults = architecture.defaults.to_dict()
    defaults["seed"] = None  # random
    return api.Model(
        id=served.id,
        created=0,
        owned_by=served.id.partition("/")[0] if "/" in served.id else "reelq",
        architecture=served.architecture,
        random_weights=architecture.random_weights,
        limits=limits | {"priority": _limit(PRIORITIES, 1.0)},
        image=image,
        prompt_max_chars=PROMPT_MAX_CHARS,
        defaults=defaults,
        presets=list(presets),
        held=served.held,
    )


def gpu(record: Gpu, preview: DrainPreview | None = None) -> api.Gpu:
    """Return a GPU as the operator sees it; `preview` is the answer to a dry run."""
    return api.Gpu(
        id=record.info.id,
        host=record.info.host,
        name=record.info.name,
        kind=record.info.kind,
        model=record.info.model,
        plans=list(record.info.plans),
        state=record.state,
        reason=record.reason,
        actor=record.actor,
        state_changed_at=time_text(record.state_changed_at),
        online=record.online,
        seen_at=time_text(record.seen_at),
        memory=_memory(record),
        utilization_percent=record.sample.utilization_percent,
        temperature_celsius=record.sample.temperature_celsius,
        power_watts=record.sample.power_watts,
        workers=[_worker(worker) for worker in record.workers],
        leases=[_lease(lease) for lease in record.leases],
        drain=_drain(record.drain) if record.drain else None,
        reservation=_reservation(record.reservation) if record.reservation else None,
        preview=_preview(preview) if preview else None,
    )


def samples(gpu_id: str, found: Series) -> api.SampleList:
    """Return what was seen of a GPU over time."""
    return api.SampleList(
        gpu=gpu_id, step_seconds=found.step_seconds, data=[_sample_point(point) for point in found.points]
    )


def estimate(need: Footprint, weight: float, plan_reason: str) -> api.Estimate:
    """Return a prediction, with why its plan was chosen."""
    return api.Estimate(
        vram_bytes=need.vram_bytes, seconds=need.seconds, weight=weight, plan=need.plan, plan_reason=plan_reason
    )


def _limit(limit: Range, default: float) -> api.LimitRange:
    """A limit; whether values are integers is told by one of them."""
    multiple_of = limit.multiple_of if isinstance(default, int) else None
    return api.LimitRange(minimum=_plain(limit.minimum), maximum=_plain(limit.maximum), multiple_of=multiple_of)


def _plain(number: float) -> int | float:
    """A limit as people write it: 64, not 64.0."""
    return int(number) if float(number).is_integer() else number


def maybe_time(seconds: float | None) -> str | None:
    """Return what `time_text` does; None where there is no time."""
    return None if seconds is None else time_text(seconds)


def _queue(info: QueueInfo) -> api.QueueState:
    return api.QueueState(
        position=info.position,
        position_exact=info.position_exact,
        eta_seconds=info.eta_seconds,
        wait_reason=info.wait.message,
        wait=wait(info.wait),
        expected_start=expected(info.start),
        expected_finish=expected(info.finish),
    )


def wait(reason: WaitReason) -> api.Wait:
    """Return what holds a job back."""
    return api.Wait(code=reason.code, details=_told(reason.details), clears_when=reason.clears_when)


def _told(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data with its times as the API shows them: they are what their names say; 0 stands for none."""
    return {
        name: maybe_time(value or None) if name.endswith("_at") or name == "not_before" else value
        for name, value in data.items()
    }


def expected(span: Span | None) -> api.Expected | None:
    """Return a span of time as the API shows it; None where nobody can tell."""
    return None if span is None else api.Expected(p50=_far_time(span.p50), p90=_far_time(span.p90))


def _far_time(seconds: float) -> str:
    return time_text(min(seconds, _LAST_TIME))


def _progress(progress: Progress) -> api.Progress:
    return api.Progress(fraction=progress.fraction, step=progress.step, steps=progress.steps)


def _job_progress(record: Job) -> api.Progress:
    """A job without an open lease has all of its video, or none."""
    if record.progress:
        return _progress(record.progress)
    steps = record.params.num_inference_steps
    done = record.status is JobStatus.SUCCEEDED
    return api.Progress(fraction=float(done), step=steps if done else 0, steps=steps)


def job_cost(record: Job, prices: Prices) -> float | None:
    """Return what the last attempt of a job cost; None where it was not measured, or its GPU has no price."""
    used = record.measured
    if used is None:
        return None
    return cost(prices.of(record.gpu_id, record.gpu_name, record.gpu_kind), used.run_seconds / used.sharing)


def _measured(record: Job, prices: Prices) -> api.MeasuredUse | None:
    used = record.measured
    if used is None or record.started_at is None:
        return None
    return api.MeasuredUse(
        vram_peak_bytes=used.vram_peak_bytes,
        working_peak_bytes=used.working_peak_bytes,
        run_seconds=used.run_seconds,
        queue_seconds=record.started_at - record.created_at,
        stage_seconds=dict(used.stage_seconds) or None,
        steps=used.steps,
        step_seconds=used.step_seconds,
        sharing=used.sharing,
        energy_joules=used.energy_joules,
        cost=job_cost(record, prices),
    )


def _video(record: Job, base_url: str) -> api.Video | None:
    result = record.result
    if result is None:
        return None
    return api.Video(
        url=f"{base_url}/v1/jobs/{record.id}/video",
        thumbnail_url=f"{base_url}/v1/jobs/{record.id}/thumbnail",
        preview_url=f"{base_url}/v1/jobs/{record.id}/preview" if result.preview_key else None,
        bytes=result.bytes,
        sha256=result.sha256,
        num_frames=result.num_frames,
        fps=result.fps,
        duration_seconds=result.duration_seconds,
        expires_at=maybe_time(result.expires_at),
        expired=result.expired,
    )


def _memory(record: Gpu) -> api.GpuMemory:
    info, sample = record.info, record.sample
    offered = None
    if sample.free_bytes is not None:
        offered = placement.ledger_free_bytes(
            sample.free_bytes, info.total_bytes, info.headroom_bytes, record.reserved_bytes
        )
    return api.GpuMemory(
        total_bytes=info.total_bytes,
        headroom_bytes=info.headroom_bytes,
        used_bytes=sample.used_bytes,
        free_bytes=sample.free_bytes,
        foreign_bytes=sample.foreign_bytes,
        reserved_bytes=record.reserved_bytes,
        offered_bytes=offered,
        problem=sample.problem,
    )


def _sample_point(point: Point) -> api.SamplePoint:
    return api.SamplePoint(
        at=time_text(point.at),
        samples=point.samples,
        problems=point.problems,
        seconds=point.seconds,
        busy_seconds=point.busy_seconds,
        hot_share=point.hot_share,
        used_bytes=_byte_level(point.used_bytes),
        foreign_bytes=_byte_level(point.foreign_bytes),
        reserved_bytes=_byte_level(point.reserved_bytes),
        utilization_percent=_level(point.utilization_percent),
        power_watts=_level(point.power_watts),
        temperature_celsius=_level(point.temperature_celsius),
    )


def _byte_level(level: Level | None) -> api.ByteLevel | None:
    return None if level is None else api.ByteLevel(mean=round(level.mean), max=round(level.max))


def _level(level: Level | None) -> api.Level | None:
    return None if level is None else api.Level(mean=level.mean, max=level.max)


def _worker(worker: Worker) -> api.GpuWorker:
    return api.GpuWorker(
        id=worker.id,
        pid=worker.pid,
        model=worker.model,
        plan=worker.plan,
        resident_bytes=worker.resident_bytes,
        ready=worker.ready,
    )


def _lease(lease: OpenLease) -> api.GpuLease:
    return api.GpuLease(
        job_id=lease.job_id,
        worker_id=lease.worker_id,
        lane=lease.lane,
        reserved_bytes=lease.reserved_bytes,
        started_at=time_text(lease.started_at),
        predicted_seconds=lease.predicted_seconds,
        expires_at=time_text(lease.expires_at),
        release_requested=lease.release_requested,
        stage=lease.progress.stage,
        progress=_progress(lease.progress),
    )


def _drain(drain: Drain) -> api.GpuDrain:
    return api.GpuDrain(
        mode=drain.mode,
        asked_at=time_text(drain.asked_at),
        deadline_at=maybe_time(drain.deadline_at),
        on_deadline=drain.on_deadline,
        resume_at=maybe_time(drain.resume_at),
    )


def _reservation(reservation: Reservation) -> api.GpuReservation:
    return api.GpuReservation(
        job_id=reservation.job_id,
        reserved_bytes=reservation.reserved_bytes,
        start_at=time_text(reservation.start_at),
        made_at=time_text(reservation.made_at),
    )


def _preview(preview: DrainPreview) -> api.DrainPreview:
    jobs = [
        api.JobForecast(job_id=job.job_id, ending=job.ending, in_seconds=job.in_seconds, lost_seconds=job.lost_seconds)
        for job in preview.jobs
    ]
    return api.DrainPreview(empty_in_seconds=preview.empty_in_seconds, jobs=jobs)


def event(record: Event) -> api.Event:
    """Return an event as the API shows it."""
    return api.Event(
        position=record.position,
        at=time_text(record.at),
        type=record.type,
        subject=record.subject,
        tenant=record.tenant,
        actor=record.actor,
        data=_told(record.data),
    )


def queue_status(state: QueueState) -> api.QueueStatus:
    """Return the queue as the operator sees it."""
    return api.QueueStatus(
        paused=state.paused_at is not None,
        pause_reason=state.pause_reason,
        paused_at=maybe_time(state.paused_at),
        paused_by=state.pause_actor,
        ready=state.ready,
        deferred=state.deferred,
        running=state.running,
        oldest_wait_seconds=state.oldest_wait_seconds,
        classes=[
            api.QueueClass(model=one.model, plan=one.plan, up_to_bytes=one.largest_bytes, jobs=one.jobs)
            for one in state.classes
        ],
        reservations=[
            api.QueueReservation(
                gpu=gpu_id,
                job=kept.job_id,
                reserved_bytes=kept.reserved_bytes,
                start_at=time_text(kept.start_at),
                made_at=time_text(kept.made_at),
            )
            for gpu_id, kept in state.reservations
        ],
    )
