"""Why a job waits: the first thing that holds it back, as things are now. Pure, no I/O.

Nothing here is remembered from one look to the next: a cause that is gone is not told, and holds nothing off.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from scheduler import backfill, outlook, placement
from scheduler.backfill import Holding, Lane, Running
from scheduler.line import Standing, Waiting
from scheduler.outlook import Pace, Span, Work
from scheduler.placement import Offer, fits, gib, ledger_free_bytes, serves, too_large
from scheduler.policy import Policy
from scheduler.records import Gpu, Reservation, Worker
from scheduler.states import GpuState
from scheduler.store.lines import Pause
from scheduler.windows import Windows

_LISTED = 3  # GPUs that a sentence names, of many that are alike


class Blocker(StrEnum):
    """What a job waits for; the first that holds is the one told."""

    NO_GPU = "no_gpu"  # no GPU runs its model with its plan
    TOO_LARGE = "too_large"  # no GPU could hold it, even alone
    QUEUE_PAUSED = "queue_paused"
    MODEL_HELD = "model_held"  # its model has failed too often, or an operator holds it
    DRAINING = "draining"  # all GPUs that fit are draining, drained or faulted
    WINDOW = "window"  # the window that its caller asked for is closed
    NOT_BEFORE = "not_before"  # its caller's wish
    RETRY_BACKOFF = "retry_backoff"
    NO_WORKER = "no_worker"  # no process is ready on a GPU that fits
    MEMORY_UNKNOWN = "memory_unknown"
    TENANT_LIMIT = "tenant_limit"  # its tenant runs as many jobs as it may
    DISPATCHING = "dispatching"  # nothing but the jobs ahead of it
    RESERVATION = "reservation"  # a GPU is kept for it
    RESERVED = "reserved"  # the GPU with room is kept for an older job
    NO_FREE_MEMORY = "no_free_memory"  # our own jobs and processes hold it
    FOREIGN_MEMORY = "foreign_memory"  # somebody else does
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class WaitReason:
    """What holds a job back: a stable code, a line for people, the numbers, and what would clear it.

    `details` goes into JSON as it is, but for times: those end in `_at`, and are seconds since 1970.
    """

    code: Blocker
    message: str
    clears_when: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queued job's place (1 is next), why it waits, and when it should start and end.

    `position_exact` is False for an estimated place. Times are seconds since 1970, None where nobody can tell;
    `eta_seconds` is from now to the median start. The place counts all that rank above it. Of limits of running jobs
    the times know only that the job itself does not start before its own tenant has a place for one more.
    """

    position: int
    position_exact: bool
    wait: WaitReason
    eta_seconds: float | None
    start: Span | None
    finish: Span | None


@dataclass(frozen=True, slots=True)
class Moment:
    """What is true for all jobs of one model and plan at one look: time, pause, and the pace of their attempts.

    `held` says why the jobs of the model wait; None while they do not.
    """

    now: float
    pause: Pause | None
    pace: Pace
    held: str | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """How many jobs the tenant of a job may run at once, and does; in how many seconds it may start one more.

    `free_after` is 0 where it may now, None where nobody can tell.
    """

    limit: int
    running: int
    free_after: float | None


@dataclass(frozen=True, slots=True)
class _Seat:
    """A worker that could run the job, on a GPU whose memory is known.

    `free_bytes` is what the job could have now, `own_free_bytes` what it could if our own processes and jobs were all
    that holds memory there. `free_after` is when it could start, in seconds; None if that cannot be told. `kept_for`
    is a reservation that it would break.
    """

    gpu: Gpu
    idle: bool
    need_bytes: int
    free_bytes: int
    own_free_bytes: int
    free_after: float | None
    kept_for: Reservation | None

    @property
    def ready(self) -> bool:
        """Whether it has no job, and the memory for this one."""
        return self.idle and self.free_bytes >= self.need_bytes


def explain(
    job: Waiting,
    offers: Sequence[Offer],
    standing: Standing,
    moment: Moment,
    policy: Policy,
    quota: Quota | None = None,
) -> QueueInfo:
    """Explain a queued job; `offers` are those of the GPUs that run its model, under each plan that it allows.

    `quota` is that of its tenant, if there is a limit.
    """
    own = [_with_need(offer, job) for offer in offers if offer.footprint.plan == job.footprint.plan]
    fitting = [offer for offer in own if fits(offer, policy.memory_class_bytes)]
    usable = [offer for offer in fitting if offer.in_service and _ready_workers(offer.gpu, job)]
    seats = [seat for offer in usable for seat in _seats(offer, job, moment, policy)]
    gpus = [offer.gpu for offer in fitting]
    wait = (
        _out_of_reach(job, own, fitting, _next_plan(job, offers, policy), policy)
        or _not_now(job, gpus, moment, policy.off_peak)
        or _unusable(job, gpus, [offer.gpu for offer in usable], seats)
        or _at_limit(quota)
        or _held_back(job, seats, standing, moment.now)
    )
    begin = None if moment.pause or moment.held else _start(job, seats, standing, moment, quota)
    position, exact = standing.ahead + 1, standing.exact
    if begin is None:
        return QueueInfo(position, exact, wait, eta_seconds=None, start=None, finish=None)
    end = outlook.finish(begin, job.footprint.seconds, moment.pace)
    return QueueInfo(position, exact, wait, begin.p50, begin.shifted(moment.now), end.shifted(moment.now))


def quota_of(limit: int, running: Collection[str], gpus: Iterable[Gpu], moment: Moment) -> Quota:
    """Return the quota of a tenant that runs these jobs, by how far they are on the fleet's GPUs."""
    if len(running) < limit:
        return Quota(limit, len(running), free_after=0.0)
    left = sorted(
        max(0.0, lease.remaining_seconds * moment.pace.mean - (moment.now - lease.progress_at))
        for gpu in gpus
        for lease in gpu.leases
        if lease.job_id in running
    )
    over = len(running) - limit  # so many must end before one that makes a place
    return Quota(limit, len(running), left[over] if limit > 0 and over < len(left) else None)


def _with_need(offer: Offer, job: Waiting) -> Offer:
    """The offer, with the working set that the job was queued with: what is predicted by now may be another."""
    return replace(offer, footprint=replace(offer.footprint, working_bytes=job.footprint.working_bytes))


def _next_plan(job: Waiting, offers: Sequence[Offer], policy: Policy) -> str | None:
    """Another plan of the job with which it would fit, if there is one."""
    others = [offer for offer in offers if offer.footprint.plan != job.footprint.plan]
    return next((offer.footprint.plan for offer in others if fits(offer, policy.memory_class_bytes)), None)


def _ready_workers(gpu: Gpu, job: Waiting) -> list[Worker]:
    return [worker for worker in gpu.workers if worker.ready and serves(worker, job.model)]


def _seats(offer: Offer, job: Waiting, moment: Moment, policy: Policy) -> list[_Seat]:
    if _memory_problem(offer.gpu):
        return []
    return [_seat(offer, one, job, moment, policy) for one in _ready_workers(offer.gpu, job)]


def _seat(offer: Offer, worker: Worker, job: Waiting, moment: Moment, policy: Policy) -> _Seat:
    gpu, need = offer.gpu, job.memory_class * policy.memory_class_bytes
    load = placement.load_bytes(worker, job.model, offer.footprint.model_bytes, offer.model_sizes)
    info, measured = gpu.info, gpu.sample.free_bytes or 0
    free = ledger_free_bytes(measured, info.total_bytes, info.headroom_bytes, gpu.reserved_bytes) - load
    own_free = info.total_bytes - info.headroom_bytes - gpu.reserved_bytes - load
    running = _running(gpu, moment.now, moment.pace.mean)
    own_jobs = [run.remaining_seconds for (worker_id, _), run in running.items() if worker_id == worker.id]
    window = backfill.window(free, need, running.values())
    kept_for = _kept_for_another(gpu, job, free, need, moment.now, policy)
    after = None if window is None else max(window.seconds, min(own_jobs, default=0.0))
    if after is not None and kept_for is not None:
        after = max(after, kept_for.start_at - moment.now)
    return _Seat(gpu, not own_jobs, need, free, own_free, after, kept_for)


def _running(gpu: Gpu, now: float, pace: float) -> dict[Lane, Running]:
    return backfill.lanes(
        Holding(
            (lease.worker_id, lease.lane),
            lease.reserved_bytes,
            (1.0 - lease.progress.fraction) * lease.predicted_seconds * pace,
            now - lease.progress_at,
        )
        for lease in gpu.leases
    )


def _kept_for_another(gpu: Gpu, job: Waiting, free: int, need: int, now: float, policy: Policy) -> Reservation | None:
    """The reservation on a GPU that keeps this job from starting there now, as a claim would judge."""
    kept = gpu.reservation
    if kept is None or kept.job_id == job.id:
        return None
    window = backfill.window(free, kept.reserved_bytes, _running(gpu, now, pace=1.0).values())
    if window is None or window.allows(job.footprint.seconds, need, policy.backfill_slack):
        return None
    return kept


def _start(
    job: Waiting, seats: Sequence[_Seat], standing: Standing, moment: Moment, quota: Quota | None
) -> Span | None:
    """When the job should start, in seconds from now."""
    begin = _start_of_its_turn(job, seats, standing, moment)
    if begin is None or quota is None:
        return begin
    if quota.free_after is None:
        return None
    place = outlook.start([quota.free_after], Work(), moment.pace)
    return Span(max(place.p50, begin.p50), max(place.p90, begin.p90))


def _start_of_its_turn(job: Waiting, seats: Sequence[_Seat], standing: Standing, moment: Moment) -> Span | None:
    kept = _kept_for(job, seats)
    if kept is not None:
        after = 0.0 if any(seat.ready for seat in seats) else max(0.0, kept.start_at - moment.now)
        return outlook.start([after], Work(), moment.pace)
    free_after = [seat.free_after for seat in seats if seat.free_after is not None]
    if not free_after:
        return None
    least = job.not_before - moment.now
    if least <= 0:
        return outlook.start(free_after, standing.work, moment.pace)
    begin = outlook.start(free_after, standing.work.and_then(standing.joining), moment.pace)
    # By then all may be idle, and those that come with it go first.
    behind = outlook.start([0.0] * len(free_after), standing.joining, moment.pace).shifted(least)
    return Span(max(behind.p50, begin.p50), max(behind.p90, begin.p90))


def _kept_for(job: Waiting, seats: Sequence[_Seat]) -> Reservation | None:
    kept = [seat.gpu.reservation for seat in seats if seat.gpu.reservation is not None]
    return next((one for one in kept if one.job_id == job.id), None)


def _out_of_reach(
    job: Waiting, offers: Sequence[Offer], fitting: Sequence[Offer], next_plan: str | None, policy: Policy
) -> WaitReason | None:
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


def _not_now(job: Waiting, fitting: Sequence[Gpu], moment: Moment, windows: Windows | None) -> WaitReason | None:
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


def _unusable(job: Waiting, fitting: Sequence[Gpu], usable: Sequence[Gpu], seats: Sequence[_Seat]) -> WaitReason | None:
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
        problems = {gpu.info.id: _memory_problem(gpu) for gpu in usable}
        return WaitReason(
            Blocker.MEMORY_UNKNOWN,
            _listed([f"{gpu_id}: {problem}" for gpu_id, problem in problems.items()]),
            "the free memory of one of these GPUs can be measured",
            {"gpus": [{"gpu": gpu_id, "problem": problem} for gpu_id, problem in problems.items()]},
        )
    return None


def _at_limit(quota: Quota | None) -> WaitReason | None:
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


def _held_back(job: Waiting, seats: Sequence[_Seat], standing: Standing, now: float) -> WaitReason:
    free = [seat for seat in seats if seat.ready and seat.kept_for is None]
    kept = _kept_for(job, seats)
    if free:
        return WaitReason(
            Blocker.DISPATCHING,
            f"starts after {_ahead(standing)}" if standing.ahead and kept is None else "next to start",
            "a worker has taken the jobs ahead and then this one",
            {"ahead": standing.ahead, "gpus": _ids(free)},
        )
    if kept is not None:
        return _reservation(kept, seats, now)
    broken = next((seat for seat in seats if seat.ready), None)
    if broken is not None and broken.kept_for is not None:
        return _reserved(broken, broken.kept_for, now)
    idle = [seat for seat in seats if seat.idle]
    if idle:
        return _shortage(max(idle, key=lambda seat: seat.free_bytes))
    leases = {lease.job_id for seat in seats for lease in seat.gpu.leases}
    return WaitReason(
        Blocker.BUSY,
        f"all GPUs that fit are busy with {len(leases)} running, {_ahead(standing)}",
        "enough of the jobs that run and are ahead have ended",
        {"running": len(leases), "ahead": standing.ahead, "gpus": _ids(seats)},
    )


def _reservation(kept: Reservation, seats: Sequence[_Seat], now: float) -> WaitReason:
    gpu = next(seat.gpu.info.id for seat in seats if seat.gpu.reservation is kept)
    return WaitReason(
        Blocker.RESERVATION,
        f"GPU {gpu} is reserved for it, with {gib(kept.reserved_bytes)} from about {_in(kept.start_at - now)}",
        "the jobs that run there have freed that memory",
        {"gpu": gpu, "needed_bytes": kept.reserved_bytes, "start_at": kept.start_at},
    )


def _reserved(seat: _Seat, kept: Reservation, now: float) -> WaitReason:
    return WaitReason(
        Blocker.RESERVED,
        f"GPU {seat.gpu.info.id} is kept for the older job {kept.job_id}, which needs {gib(kept.reserved_bytes)} "
        f"from about {_in(kept.start_at - now)}",
        "that job has started, or is gone",
        {
            "gpu": seat.gpu.info.id,
            "job_id": kept.job_id,
            "start_at": kept.start_at,
            "reserved_bytes": kept.reserved_bytes,
            "needed_bytes": seat.need_bytes,
            "free_bytes": seat.free_bytes,
        },
    )


def _shortage(seat: _Seat) -> WaitReason:
    gpu, free = seat.gpu.info.id, max(0, seat.free_bytes)
    numbers = {"gpu": gpu, "needed_bytes": seat.need_bytes, "free_bytes": free}
    told = f"needs {gib(seat.need_bytes)} beside the resident model, {gib(free)} are free now on GPU {gpu}"
    if seat.own_free_bytes >= seat.need_bytes:
        foreign = seat.own_free_bytes - seat.free_bytes
        return WaitReason(
            Blocker.FOREIGN_MEMORY,
            f"{told}: {gib(foreign)} are held by something that is none of our jobs",
            "whatever holds that memory gives it back",
            numbers | {"foreign_bytes": foreign},
        )
    held = seat.gpu.reserved_bytes - sum(worker.resident_bytes for worker in seat.gpu.workers)
    return WaitReason(
        Blocker.NO_FREE_MEMORY,
        f"{told}: {gib(held)} are promised to {len(seat.gpu.leases)} running",
        "enough of the jobs that run there have ended",
        numbers | {"promised_bytes": held, "running": len(seat.gpu.leases)},
    )


def _ahead(standing: Standing) -> str:
    return f"{'' if standing.exact else 'about '}{standing.ahead} queued ahead"


def _in(seconds: float) -> str:
    return f"{seconds:.0f} s from now" if seconds >= 1 else "now"


def _time(seconds: float) -> str:
    """A time as RFC 3339 has it, to the second, and rather a later one."""
    return datetime.fromtimestamp(math.ceil(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ids(seats: Sequence[_Seat]) -> list[str]:
    return list(dict.fromkeys(seat.gpu.info.id for seat in seats))


def _listed(told: Sequence[str]) -> str:
    """What is told of several GPUs, of the first few in full: a fleet may be large, and the details have them all."""
    more = len(told) - _LISTED
    return "; ".join([*told[:_LISTED], *([f"and {more} more"] if more > 0 else [])])


def _memory_problem(gpu: Gpu) -> str | None:
    return gpu.sample.problem or (None if gpu.sample.free_bytes is not None else "not measured yet")


def _readiness(gpu: Gpu, model: str) -> str:
    if not gpu.online:
        return "is offline"
    if any(serves(worker, model) for worker in gpu.workers):
        return "is loading it"
    return "has no worker for it"
