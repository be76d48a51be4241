"""What keeps a queued job from all workers, however idle they are: each function tells one kind, or None.

It fits no GPU, may not run yet, has no worker that is ready, or its tenant runs as many jobs as it may. Pure, no I/O.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from scheduler.line import Waiting
from scheduler.moment import Moment, Quota
from scheduler.placement import Offer, serves, too_large
from scheduler.policy import Policy
from scheduler.records import Gpu
from scheduler.seats import Seat, memory_problem
from scheduler.states import GpuState
from scheduler.waits import Blocker, WaitReason
from scheduler.windows import Windows

_LISTED = 3  # GPUs that a sentence names, of many that are alike


def out_of_reach(
    job: Waiting, offers: Sequence[Offer], fitting: Sequence[Offer], next_plan: str | None, policy: Policy
) -> WaitReason | None:
    """Tell that no GPU could run a job under its plan; `next_plan` is one of its others that fits, if there is one."""
    if fitting:
        return None
    plan, next_step = (
        job.footprint.plan,
        "" if next_plan is None else f"; it will go on with plan {next_plan}, which fits",
    )
    details = {} if next_plan is None else {"next_plan": next_plan}
    if not offers:
        return WaitReason(
            Blocker.NO_GPU,
            f"no GPU of the fleet runs {job.model} with plan {plan}{next_step}",
            "a GPU that runs this model with this plan registers"
            if next_plan is None
            else "the reaper has replanned it",
            {"model": job.model, "plan": plan, **details},
        )
    largest = max(offers, key=lambda offer: offer.capacity_bytes)
    return WaitReason(
        Blocker.TOO_LARGE,
        too_large(largest, policy.memory_class_bytes) + next_step,
        "a GPU registers that can give a job so much memory" if next_plan is None else "the reaper has replanned it",
        {
            "gpu": largest.gpu.info.id,
            "needed_bytes": job.memory_class * policy.memory_class_bytes,
            "capacity_bytes": max(0, largest.capacity_bytes),
            **details,
        },
    )


def not_now(job: Waiting, fitting: Sequence[Gpu], moment: Moment, windows: Windows | None) -> WaitReason | None:
    """Tell that nothing starts now: neither this job, which may not yet, nor any on the GPUs that fit."""
    pause = moment.pause
    if pause is not None:
        return WaitReason(
            Blocker.QUEUE_PAUSED,
            f"the queue is paused ({pause.reason})",
            "the queue is resumed",
            {"paused_at": pause.paused_at, "reason": pause.reason, "actor": pause.actor},
        )
    if moment.held is not None:
        return WaitReason(
            Blocker.MODEL_HELD,
            f"the model {job.model} is held ({moment.held})",
            "the model is released",
            {"model": job.model, "reason": moment.held},
        )
    if all(gpu.state is not GpuState.ACTIVE for gpu in fitting):
        return WaitReason(
            Blocker.DRAINING,
            _listed([f"GPU {gpu.info.id} is {gpu.state.value} ({gpu.reason})" for gpu in fitting]),
            "one of these GPUs is resumed",
            {"gpus": [{"gpu": gpu.info.id, "state": gpu.state.value, "reason": gpu.reason} for gpu in fitting]},
        )
    return _put_off(job, moment.now, windows)


def _put_off(job: Waiting, now: float, windows: Windows | None) -> WaitReason | None:
    seconds = job.not_before - now
    if seconds <= 0:
        return None
    if job.window is not None and windows is not None and not windows.is_open(job.not_before - 1):
        return WaitReason(
            Blocker.WINDOW,
            f"waits for the off-peak window, which opens at {windows.told(job.not_before)}",
            "the window opens",
            {"window": job.window, "until_at": job.not_before, "time_zone": windows.zone},
        )
    if job.attempts:
        return WaitReason(
            Blocker.RETRY_BACKOFF,
            f"not before {seconds:.1f} s from now, after attempt {job.attempts}",
            "that time has come",
            {"until_at": job.not_before, "attempts": job.attempts, "max_attempts": job.max_attempts},
        )
    return WaitReason(
        Blocker.NOT_BEFORE,
        f"not before {_time(job.not_before)}, as asked for",
        "that time has come",
        {"until_at": job.not_before},
    )


def unusable(job: Waiting, fitting: Sequence[Gpu], usable: Sequence[Gpu], seats: Sequence[Seat]) -> WaitReason | None:
    """Tell that of the GPUs that fit none is `usable`, for want of a worker; or none of these has a seat."""
    if not usable:
        states = {gpu.info.id: _readiness(gpu, job.model) for gpu in fitting if gpu.state is GpuState.ACTIVE}
        told = _listed([f"GPU {gpu_id} {state}" for gpu_id, state in states.items()])
        return WaitReason(
            Blocker.NO_WORKER,
            f"no worker is ready for {job.model}: {told}",
            "a worker is ready on one of these GPUs",
            {"gpus": [{"gpu": gpu_id, "state": state} for gpu_id, state in states.items()]},
        )
    if not seats:
        problems = {gpu.info.id: memory_problem(gpu) for gpu in usable}
        return WaitReason(
            Blocker.MEMORY_UNKNOWN,
            _listed([f"{gpu_id}: {problem}" for gpu_id, problem in problems.items()]),
            "the free memory of one of these GPUs can be measured",
            {"gpus": [{"gpu": gpu_id, "problem": problem} for gpu_id, problem in problems.items()]},
        )
    return None


def at_limit(quota: Quota | None) -> WaitReason | None:
    """Tell that the tenant of a job runs as many jobs as it may, or more."""
    if quota is None or quota.running < quota.limit:
        return None
    numbers = {"running": quota.running, "limit": quota.limit}
    if quota.running == 0:
        return WaitReason(Blocker.TENANT_LIMIT, "its tenant may run no jobs", "its tenant's limit is raised", numbers)
    jobs = "1 job" if quota.running == 1 else f"{quota.running} jobs"
    told = "as many as it may" if quota.running == quota.limit else f"and may run {quota.limit}"
    return WaitReason(
        Blocker.TENANT_LIMIT,
        f"its tenant runs {jobs} at once, {told}",
        "one of its tenant's jobs ends" if quota.running == quota.limit else "enough of its tenant's jobs have ended",
        numbers,
    )


def _time(seconds: float) -> str:
    """A time as RFC 3339 has it, to the second, and rather a later one."""
    return datetime.fromtimestamp(math.ceil(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _listed(told: Sequence[str]) -> str:
    """What is told of several GPUs, of the first few in full: a fleet may be large, and the details have them all."""
    more = len(told) - _LISTED
    return "; ".join([*told[:_LISTED], *([f"and {more} more"] if more > 0 else [])])


def _readiness(gpu: Gpu, model: str) -> str:
    if not gpu.online:
        return "is offline"
    if any(serves(worker, model) for worker in gpu.workers):
        return "is loading it"
    return "has no worker for it"
