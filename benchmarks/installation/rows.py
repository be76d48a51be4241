"""From what happened to rows, as the transitions would have left them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any

from benchmarks.installation.fleet import HEADROOM_BYTES, MODELS, PROMPTS, TENANTS, Machine
from benchmarks.installation.history import Past, Span
from scheduler import placement, rank
from scheduler.plans import GPU_PLANS
from scheduler.policy import Policy
from scheduler.records import Measured
from scheduler.shape import Shape
from scheduler.states import GpuState, JobStatus, Outcome, Source

_POLICY = Policy()
_VIDEO_BYTES = 1_400_000
_STAGES = {"loading": 0.03, "encoding": 0.02, "denoising": 0.85, "decoding": 0.08, "muxing": 0.02}
_UNMEASURED = dict.fromkeys(field.name for field in fields(Measured))

Row = Mapping[str, Any]


def models(until: float) -> Iterator[Row]:
    """Yield the models."""
    for one in MODELS:
        yield {
            "id": one.id,
            "architecture": one.architecture,
            "weights_bytes": one.weights_bytes,
            "fingerprint": one.fingerprint,
            "seen_at": until,
        }


def tenants() -> Iterator[Row]:
    """Yield the tenants, each with its share."""
    for number, tenant in enumerate(TENANTS, start=1):
        yield {"id": tenant, "share": float(number), "virtual_at": 0.0}


def gpus(fleet: Iterable[Machine], until: float) -> Iterator[Row]:
    """Yield the GPUs as they were last seen; one is drained, one is faulted."""
    states = {1: (GpuState.DRAINED, "its fan is replaced"), 2: (GpuState.FAULTED, "Xid 79: it has fallen off the bus")}
    for machine in fleet:
        state, reason = states.get(machine.number, (GpuState.ACTIVE, None))
        total = machine.card.total_bytes
        yield {
            "id": machine.id,
            "host": machine.host,
            "model": MODELS[0].id,
            "kind": machine.card.name,
            "name": machine.card.name,
            "plans": json.dumps(GPU_PLANS),
            "total_bytes": total,
            "headroom_bytes": HEADROOM_BYTES,
            "state": state.value,
            "reason": reason,
            "state_changed_at": until - 3600.0,
            "used_bytes": total // 4,
            "free_bytes": total - total // 4,
            "foreign_bytes": 0,
            "utilization_percent": 0.0,
            "temperature_celsius": 41.0,
            "power_watts": 70.0,
            "seen_at": until,
        }


def job(past: Past) -> Row:
    """Return what was asked for."""
    return {
        "id": past.id,
        "tenant": past.tenant,
        "model": past.model.id,
        "prompt": f"{PROMPTS[past.prompt % len(PROMPTS)]}, take {past.prompt}",
        "params": json.dumps(past.params.to_dict()),
        "metadata": "{}",
        "image_key": f"jobs/{past.id}/input.png",
        "max_attempts": _POLICY.max_attempts,
        "created_at": past.created_at,
    }


def state(past: Past) -> Row:
    """Return where the job stands."""
    need, last = past.footprint, past.spans[-1]
    weight, place = rank.place(_POLICY, need, priority=1.0, virtual_at=past.created_at)
    error = last.error if past.status is JobStatus.FAILED else None
    return {
        "job_id": past.id,
        "tenant": past.tenant,
        "gate": "",
        "status": past.status.value,
        "model": past.model.id,
        "priority": 1.0,
        "plan": need.plan,
        "plan_reason": f"{need.plan} is the fastest that fits",
        "shape": Shape.of(past.params).key,
        "est_model_bytes": need.model_bytes,
        "est_working_bytes": need.working_bytes,
        "est_seconds": need.seconds,
        "weight": weight,
        "virtual_at": past.created_at,
        "rank": place,
        "memory_class": placement.memory_class(need.working_bytes, _POLICY.memory_class_bytes),
        "steps": past.params.num_inference_steps,
        "not_before": 0.0,
        "ready_at": past.created_at,
        "lease": len(past.spans),
        "attempts": _burned(past.spans),
        "version": 1 + 2 * len(past.spans),
        "started_at": past.spans[0].started_at,
        "finished_at": last.ended_at,
        "error_code": error.code if error else None,
        "error_message": error.message if error else None,
        "notices": "[]",
    }


def attempts(past: Past) -> Iterator[Row]:
    """Yield the job's attempts, oldest first."""
    need = past.footprint
    for at, span in enumerate(past.spans):
        yield {
            "job_id": past.id,
            "lease": at + 1,
            "tenant": past.tenant,
            "number": _burned(past.spans[:at]) + 1,
            "gpu_id": past.machine.id,
            "worker_id": f"worker-{past.machine.number}-{past.lane}",
            "model": past.model.id,
            "plan": need.plan,
            "shape": Shape.of(past.params).key,
            "gpu_kind": past.machine.card.name,
            "predicted_vram_bytes": need.vram_bytes,
            "predicted_seconds": need.seconds,
            "started_at": span.started_at,
            "ended_at": span.ended_at,
            "outcome": span.outcome.value,
            "error_code": span.error.code if span.error else None,
            "error_message": span.error.message if span.error else None,
            **(_measured(past, span) if span.outcome is Outcome.SUCCEEDED else _UNMEASURED),
        }


def _measured(past: Past, span: Span) -> Row:
    need, seconds, steps = past.footprint, span.ended_at - span.started_at, past.params.num_inference_steps
    fill = 0.86 + 0.1 * (past.prompt % 100) / 100
    return {
        "vram_peak_bytes": int(need.model_bytes + fill * need.working_bytes),
        "run_seconds": seconds,
        "working_peak_bytes": int(fill * need.working_bytes),
        "steps": steps,
        "step_seconds": 0.85 * seconds / steps,
        "fixed_seconds": 0.15 * seconds,
        "sharing": 1,
        "energy_joules": seconds * past.machine.card.watts / past.machine.lanes,
        "stage_seconds": json.dumps({stage: round(share * seconds, 3) for stage, share in _STAGES.items()}),
    }


def result(past: Past) -> Row:
    """Return what the job has made; its files are not there."""
    folder, params = f"jobs/{past.id}/{len(past.spans)}", past.params
    return {
        "job_id": past.id,
        "video_key": f"{folder}/video.mp4",
        "thumbnail_key": f"{folder}/thumbnail.jpg",
        "bytes": _VIDEO_BYTES,
        "sha256": past.id.removeprefix("job_").ljust(64, "0"),
        "width": params.width,
        "height": params.height,
        "num_frames": params.num_frames,
        "fps": params.target_fps,
        "duration_seconds": params.num_frames / params.target_fps,
    }


def observations(pasts: Iterable[Past], kept: int) -> Iterator[Row]:
    """Yield what the runs of each kind needed, of the first `kept` that succeeded."""
    seen: dict[tuple[str, ...], int] = {}
    for past in pasts:
        kind = (past.machine.card.name, past.model.id, past.footprint.plan, Shape.of(past.params).key)
        if past.status is not JobStatus.SUCCEEDED or seen.get(kind, 0) >= kept:
            continue
        seen[kind] = seen.get(kind, 0) + 1
        span = past.spans[-1]
        measured = _measured(past, span)
        names = ("working_peak_bytes", "step_seconds", "fixed_seconds")
        yield {
            "at": span.ended_at,
            "source": Source.ATTEMPT.value,
            **dict(zip(("gpu_kind", "model", "plan", "shape"), kind, strict=True)),
            **{name: measured[name] for name in names},
        }


def events(pasts: Iterable[Past]) -> Sequence[Row]:
    """Return what was told of the jobs, in the order of time."""
    told = sorted((row for past in pasts for row in _events(past)), key=itemgetter("at"))
    return [row | {"position": position} for position, row in enumerate(told, start=1)]


def _events(past: Past) -> Iterator[dict[str, Any]]:
    common = {"subject": past.id, "tenant": past.tenant}
    yield common | {"at": past.created_at, "type": "job.queued", "data": '{"priority": 1.0, "not_before": 0.0}'}
    for at, span in enumerate(past.spans):
        claimed = {"lease": at + 1, "attempt": _burned(past.spans[:at]) + 1, "gpu": past.machine.id}
        yield common | {"at": span.started_at, "type": "job.running", "data": json.dumps(claimed)}
        last = at + 1 == len(past.spans)
        how: dict[str, Any] = {"lease": at + 1}
        if span.outcome is not Outcome.SUCCEEDED:
            how["outcome"] = span.outcome.value
        if span.error is not None:
            how["error"] = {"code": span.error.code, "message": span.error.message}
        type_ = f"job.{past.status}" if last else "job.requeued"
        yield common | {"at": span.ended_at, "type": type_, "data": json.dumps(how)}


def _burned(spans: Sequence[Span]) -> int:
    return sum(span.outcome is not Outcome.RELEASED for span in spans)
