"""Why a job waits, where it stands and when it should start: pure functions of what the store knows."""

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.placement import Offer, fits, gib, ledger_free_bytes, memory_class, too_large
from scheduler.records import Gpu, Job
from scheduler.states import GpuState


@dataclass(frozen=True, slots=True)
class WaitReason:
    """The first thing that holds a job back: a stable code, and a line with the numbers."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queued job's place: `position` 1 is next, `eta_seconds` until it should start (None: nobody can tell)."""

    position: int
    eta_seconds: float | None
    wait: WaitReason


def explain(job: Job, offers: Sequence[Offer], now: float, ahead: tuple[int, float], class_bytes: int) -> QueueInfo:
    """Explain a queued job.

    `offers` are the GPUs that run the job's model with its plan, and its footprint there; `ahead` counts the jobs
    ranked above it and sums their seconds.
    """
    count, seconds = ahead
    usable = [offer for offer in offers if _usable(offer, job, class_bytes)]
    eta = None
    if usable:
        running = sum((1 - x.progress.fraction) * job.footprint.seconds for o in usable for x in o.gpu.leases)
        eta = max(job.not_before - now, (seconds + running) / len(usable), 0.0)
    return QueueInfo(count + 1, eta, _reason(job, offers, usable, now, count, class_bytes))


def _usable(offer: Offer, job: Job, class_bytes: int) -> bool:
    gpu = offer.gpu
    serves = any(w.model == job.model and w.ready for w in gpu.workers)
    return gpu.state is GpuState.ACTIVE and gpu.online and serves and fits(offer, class_bytes)


def _reason(
    job: Job, offers: Sequence[Offer], usable: Sequence[Offer], now: float, ahead: int, class_bytes: int
) -> WaitReason:
    fitting = [offer for offer in offers if fits(offer, class_bytes)]
    active = [offer for offer in fitting if offer.gpu.state is GpuState.ACTIVE]
    if not offers:
        return WaitReason("no_gpu", f"no GPU of the fleet runs {job.model} with plan {job.footprint.plan}")
    if not fitting:
        return WaitReason("too_large", too_large(max(offers, key=lambda offer: offer.capacity_bytes), class_bytes))
    if not active:
        return WaitReason("draining", "; ".join(_state_of(offer.gpu) for offer in fitting))
    if job.not_before > now:
        return WaitReason(
            "retry_backoff", f"not before {job.not_before - now:.1f} s from now, after attempt {job.attempts}"
        )
    if not usable:
        return WaitReason(
            "no_worker",
            f"no worker is ready for {job.model}: " + "; ".join(_readiness(o.gpu, job.model) for o in active),
        )
    return _shortage(job, usable, ahead, class_bytes)


def _shortage(job: Job, usable: Sequence[Offer], ahead: int, class_bytes: int) -> WaitReason:
    problems = [f"{o.gpu.info.id}: {problem}" for o in usable if (problem := _memory_problem(o.gpu))]
    if len(problems) == len(usable):
        return WaitReason("memory_unknown", "; ".join(problems))
    if all(len(o.gpu.leases) >= len(o.gpu.workers) for o in usable):
        jobs = sum(len(o.gpu.leases) for o in usable)
        return WaitReason("busy", f"all GPUs that fit are busy with {jobs} running, {ahead} queued ahead")
    need = memory_class(job.footprint.working_bytes, class_bytes) * class_bytes
    free = max(_free_bytes(o.gpu) for o in usable if not _memory_problem(o.gpu))
    if free < need:
        return WaitReason("no_free_memory", f"needs {gib(need)} beside the resident model, {gib(free)} are free now")
    return WaitReason("dispatching", f"starts after {ahead} queued ahead" if ahead else "next to start")


def _memory_problem(gpu: Gpu) -> str | None:
    return gpu.sample.problem or (None if gpu.sample.free_bytes is not None else "not measured yet")


def _free_bytes(gpu: Gpu) -> int:
    info = gpu.info
    return ledger_free_bytes(gpu.sample.free_bytes or 0, info.total_bytes, info.headroom_bytes, gpu.reserved_bytes)


def _state_of(gpu: Gpu) -> str:
    return f"GPU {gpu.info.id} is {gpu.state.value} ({gpu.reason})"


def _readiness(gpu: Gpu, model: str) -> str:
    if not gpu.online:
        return f"GPU {gpu.info.id} is offline"
    if any(worker.model == model for worker in gpu.workers):
        return f"GPU {gpu.info.id} is loading it"
    return f"GPU {gpu.info.id} has no worker for it"
