"""The workers that could run a queued job: the memory that each has for it, and when it could begin. Pure, no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler import backfill, placement
from scheduler.backfill import Holding, Lane, Running
from scheduler.line import Waiting
from scheduler.moment import Moment
from scheduler.placement import Offer, ledger_free_bytes, serves
from scheduler.policy import Policy
from scheduler.records import Gpu, Reservation, Worker


@dataclass(frozen=True, slots=True)
class Seat:
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


def seats_of(offer: Offer, job: Waiting, moment: Moment, policy: Policy) -> list[Seat]:
    """Return the seats that the GPU of an offer has for a job: none where its free memory is not known."""
    if memory_problem(offer.gpu):
        return []
    return [_seat(offer, one, job, moment, policy) for one in ready_workers(offer.gpu, job)]


def ready_workers(gpu: Gpu, job: Waiting) -> list[Worker]:
    """Return the workers of a GPU that could run a job as soon as they are free."""
    return [worker for worker in gpu.workers if worker.ready and serves(worker, job.model)]


def memory_problem(gpu: Gpu) -> str | None:
    """Return why the free memory of a GPU is not known; None where it is."""
    return gpu.sample.problem or (None if gpu.sample.free_bytes is not None else "not measured yet")


def reservation_for(job: Waiting, seats: Sequence[Seat]) -> Reservation | None:
    """Return the reservation that one of the GPUs has for a job, if there is one."""
    kept = [seat.gpu.reservation for seat in seats if seat.gpu.reservation is not None]
    return next((one for one in kept if one.job_id == job.id), None)


def _seat(offer: Offer, worker: Worker, job: Waiting, moment: Moment, policy: Policy) -> Seat:
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
    return Seat(gpu, not own_jobs, need, free, own_free, after, kept_for)


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
