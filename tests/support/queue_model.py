"""The queue as a plain model: what a sequence of calls must lead to, without a database.

The rules are stated again here in the simplest way there is, over all jobs at once; nothing of the scheduler decides.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from scheduler.policy import Order, Policy
from scheduler.rank import overtaking_seconds
from scheduler.records import Lease
from scheduler.states import DrainMode, GpuState, JobStatus, OnDeadline

_GIB = 2**30


@dataclass
class ModelJob:
    """What must be true of a job. From `fraction` on it is what must be true of its open lease."""

    id: str
    model: str
    seconds: float
    vram_bytes: int
    need_bytes: int  # what the ledger gives it beside the resident model
    priority: float
    virtual_at: float
    ready_at: float
    not_before: float
    tenant: str = ""
    status: JobStatus = JobStatus.QUEUED
    fence: int = 0
    attempts: int = 0
    cancel_requested: bool = False
    lease: Lease | None = None
    reserved_bytes: int = 0
    expires_at: float = 0.0
    lane: tuple[str, int] = ("", 0)  # of the worker that has it
    has_begun: bool = False
    fraction: float = 0.0
    progress_at: float = 0.0
    release_requested: bool = False


@dataclass
class ModelWorker:
    """What must be true of a worker. `loads` is what more (or less) it holds once it runs a job of each model."""

    id: str
    gpu_id: str
    model: str
    resident_bytes: int
    seen_at: float
    loads: Mapping[str, int]
    condemned: bool = False


@dataclass
class ModelGpu:
    """What must be true of a GPU."""

    id: str
    usable_bytes: int  # total - headroom
    seen_at: float
    state: GpuState = GpuState.ACTIVE
    deadline_at: float | None = None
    on_deadline: OnDeadline = OnDeadline.CHECKPOINT
    resume_at: float | None = None
    reserved_for: str | None = None  # the job it is kept for,
    start_at: float = 0.0  # and when that should start


class Lane(NamedTuple):
    """The jobs of one lane: they run one after another, in the memory of the largest."""

    reserved_bytes: int
    remaining_seconds: float
    unseen_bytes: int  # of jobs that have made no step: no look at the GPU shows them yet


class Budget(NamedTuple):
    """What a lane of a worker can give a job of one model: now, and with nothing else running; what loading adds."""

    free_bytes: int
    room_bytes: int
    load_bytes: int


class Window(NamedTuple):
    """When the reserved job should start, and what will still be free beside it."""

    seconds: float
    spare_bytes: int


@dataclass
class QueueModel:
    """All jobs, workers and GPUs; each method is one call's effect.

    `told` is what the event log must have about each subject since it was last emptied, and `situations` counts what
    has come up, to show that it does.
    """

    policy: Policy
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    workers: dict[str, ModelWorker] = field(default_factory=dict)
    gpus: dict[str, ModelGpu] = field(default_factory=dict)
    shares: dict[str, float | None] = field(default_factory=dict)
    limits: dict[str, int | None] = field(default_factory=dict)  # how many jobs a tenant may run at once
    clocks: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    paused: bool = False
    told: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    situations: Counter[str] = field(default_factory=Counter)

    # Submitting

    def submitted(self, job: ModelJob, tenant: str, now: float) -> None:
        """A new job: a tenant with a share has a clock, which only its own submits move on."""
        share = self.shares.get(tenant)
        job.tenant = tenant
        job.virtual_at = job.ready_at
        if share is not None:
            job.virtual_at = max(job.ready_at, self.clocks[tenant])
            self.clocks[tenant] = max(now, self.clocks[tenant]) + job.seconds / share
        self.jobs[job.id] = job
        self._tell(job.id, "job.queued")

    def merit(self, job: ModelJob) -> float:
        """What makes a job go before those of its age."""
        if self.policy.order is Order.SHORTEST_FIRST:
            return job.priority / job.seconds
        return job.seconds / (job.vram_bytes / _GIB) * job.priority

    def rank(self, job: ModelJob) -> float:
        """What the line is sorted by, the highest first."""
        if self.policy.order is Order.FIFO:
            return -job.virtual_at
        return math.log(self.merit(job)) - job.virtual_at / self.policy.tau_seconds

    # Claiming

    def claim(self, worker_id: str, lane: int, measured_bytes: int, now: float) -> ModelJob | None:
        """Return the job that a claim must lease, and keep the reservation that it makes or drops."""
        worker = self.workers.get(worker_id)
        if worker is None or worker.condemned or self.paused:
            return None
        gpu = self.gpus[worker.gpu_id]
        if gpu.state is not GpuState.ACTIVE:
            return None
        budgets = self._budgets(worker, lane, measured_bytes, now)
        lanes = self._lanes(gpu.id, now)
        own = lanes.pop((worker_id, lane), None)
        self.situations["a job waits in a lane behind another"] += own is not None
        wanting = [job for job in self.queued() if job.not_before <= now and job.model in worker.loads]
        ready = [job for job in wanting if self.has_place(job)]
        self.situations["a limit of running jobs holds the first one back"] += self._first(wanting) not in (
            None,
            *ready,
        )
        kept = self._kept(gpu, budgets, now)
        if kept is not None and kept in ready and kept.need_bytes <= budgets[kept.model].free_bytes:
            self.situations["the reserved job starts"] += 1
            return kept
        fitting = [job for job in ready if job.need_bytes <= budgets[job.model].free_bytes]
        kept = kept or self._reserve(gpu, budgets, lanes.values(), ready, fitting, now)
        if kept is None:
            return self._first(fitting)
        window = self._window(lanes.values(), budgets, kept)
        assert window is not None, "what fits an empty GPU fits once all that runs there has ended"
        begins_after = own.remaining_seconds if own else 0.0
        allowed = [job for job in fitting if self._may_start(job, budgets, window, begins_after)]
        self.situations["a job that fits waits for the reserved one"] += len(allowed) < len(fitting)
        return self._first(allowed)

    def _budgets(self, worker: ModelWorker, lane: int, measured_bytes: int, now: float) -> dict[str, Budget]:
        """The ledger of the worker's GPU for each model; what only other workers there run is their worry to load.

        The lane's own jobs will have ended; what another lane holds is missing from what would be free without them.
        """
        usable = self.gpus[worker.gpu_id].usable_bytes
        lanes = self._lanes(worker.gpu_id, now)
        beside = sum(one.reserved_bytes for key, one in lanes.items() if key[0] == worker.id and key[1] != lane)
        others = sum(one.reserved_bytes for key, one in lanes.items() if key[0] != worker.id)
        resident = sum(other.resident_bytes for other in self.workers.values() if other.gpu_id == worker.gpu_id)
        unseen = sum(one.unseen_bytes for key, one in lanes.items() if key[0] != worker.id)
        free = min(measured_bytes - beside - unseen, usable - resident - others - beside)
        room = min(measured_bytes + others - unseen, usable - resident)
        budgets: dict[str, Budget] = defaultdict(lambda: Budget(free, room, 0))
        for model, load in worker.loads.items():
            added = max(0, load) if beside else load
            budgets[model] = Budget(free - added, room - added, added)
        return budgets

    def _lanes(self, gpu_id: str, now: float) -> dict[tuple[str, int], Lane]:
        """What runs on a GPU, by lane; what is late ends at once."""
        of: dict[tuple[str, int], list[ModelJob]] = defaultdict(list)
        for job in self.running(gpu_id):
            of[job.lane].append(job)
        return {
            lane: Lane(
                max(job.reserved_bytes for job in jobs),
                max(
                    0.0,
                    sum((1.0 - job.fraction) * job.seconds for job in jobs)
                    - min(now - job.progress_at for job in jobs),
                ),
                max(job.reserved_bytes for job in jobs)
                - max((job.reserved_bytes for job in jobs if job.fraction > 0), default=0),
            )
            for lane, jobs in of.items()
        }

    def _kept(self, gpu: ModelGpu, budgets: Mapping[str, Budget], now: float) -> ModelJob | None:
        """The job the GPU is reserved for, as long as it waits and could run there."""
        if gpu.reserved_for is None:
            return None
        job = self.jobs[gpu.reserved_for]
        may_start = job.status is JobStatus.QUEUED and job.not_before <= now and self.has_place(job)
        if may_start and job.need_bytes <= budgets[job.model].room_bytes:
            return job
        self.situations["a reservation that cannot be kept is dropped"] += 1
        gpu.reserved_for = None
        return None

    def _reserve(
        self,
        gpu: ModelGpu,
        budgets: Mapping[str, Budget],
        lanes: Collection[Lane],
        ready: Iterable[ModelJob],
        fitting: Iterable[ModelJob],
        now: float,
    ) -> ModelJob | None:
        """Only memory holds the first of the line back, and has for too long: the GPU is kept for it from now on."""
        elsewhere = {other.reserved_for for other in self.gpus.values()}
        blocked = [
            job
            for job in ready
            if budgets[job.model].free_bytes < job.need_bytes <= budgets[job.model].room_bytes
            and job.id not in elsewhere
        ]
        first = self._first(blocked)
        if first is None or self._first([first, *fitting]) is not first:
            return None
        if now - first.ready_at <= self.policy.reserve_after_seconds:
            return None
        window = self._window(lanes, budgets, first)
        assert window is not None
        gpu.reserved_for, gpu.start_at = first.id, now + window.seconds
        self.situations["a GPU is reserved"] += 1
        return first

    def _window(self, lanes: Collection[Lane], budgets: Mapping[str, Budget], kept: ModelJob) -> Window | None:
        """The first moment at which enough of the other lanes have ended, by the predictions."""
        for seconds in sorted({0.0, *(lane.remaining_seconds for lane in lanes)}):
            ended = sum(lane.reserved_bytes for lane in lanes if lane.remaining_seconds <= seconds)
            spare = budgets[kept.model].free_bytes + ended - kept.need_bytes
            if spare >= 0:
                return Window(seconds, spare)
        return None

    def _reserved(self, job: ModelJob, budgets: Mapping[str, Budget]) -> int:
        return max(self.policy.memory_class_bytes, job.need_bytes + budgets[job.model].load_bytes)

    def _may_start(self, job: ModelJob, budgets: Mapping[str, Budget], window: Window, begins_after: float) -> bool:
        """Whether a job leaves the reserved start where it is: it will have ended by then, or fits beside it."""
        if job.seconds <= (window.seconds - begins_after) / self.policy.backfill_slack:
            self.situations["a job may run before the reserved start"] += 1
            return True
        if self._reserved(job, budgets) <= window.spare_bytes:
            self.situations["a job may run beside the reserved one"] += 1
            return True
        return False

    def _first(self, jobs: Iterable[ModelJob]) -> ModelJob | None:
        return min(jobs, key=lambda job: (-self.rank(job), job.id), default=None)

    def check_overtaking(self, job: ModelJob, worker_id: str, lane: int, measured_bytes: int, now: float) -> None:
        """A job is about to start: whatever came before it and could start instead is within the promised bound."""
        worker = self.workers[worker_id]
        gpu = self.gpus[worker.gpu_id]
        if gpu.reserved_for == job.id:
            return  # it has waited for the GPU, and the others for it
        budgets = self._budgets(worker, lane, measured_bytes, now)
        lanes = self._lanes(gpu.id, now)
        own = lanes.pop((worker_id, lane), None)
        after = own.remaining_seconds if own else 0.0
        kept = None if gpu.reserved_for is None else self.jobs[gpu.reserved_for]
        window = None if kept is None else self._window(lanes.values(), budgets, kept)
        for other in self.queued():
            fits = other.model in worker.loads and other.need_bytes <= budgets[other.model].free_bytes
            if not fits or other.not_before > now or not self.has_place(other):
                continue
            if window and not self._may_start(other, budgets, window, after):
                continue
            later_by = job.virtual_at - other.virtual_at
            if later_by > 0:
                self.situations["a later job goes first"] += 1
                assert self.policy.order is not Order.FIFO
                bound = overtaking_seconds(self.merit(job), self.merit(other), self.policy.tau_seconds)
                assert later_by <= bound + 1e-6, f"{job.id} came {later_by} s after {other.id}, the bound is {bound} s"

    def claimed(self, job: ModelJob, lease: Lease, measured_bytes: int, now: float) -> None:
        """queued → running; whichever GPU was kept for the job is kept no longer."""
        worker = self.workers[lease.worker_id]
        gpu = self.gpus[worker.gpu_id]
        if gpu.reserved_for != job.id and self._unreserve(job.id):
            self.situations["a reserved job starts on another GPU"] += 1
        self._unreserve(job.id)
        job.reserved_bytes = self._reserved(job, self._budgets(worker, lease.lane, measured_bytes, now))
        job.lane, job.has_begun = (worker.id, lease.lane), False
        self.situations["a worker gives memory back"] += job.reserved_bytes < job.need_bytes
        self.situations["a worker loads another model"] += job.model != worker.model
        job.status, job.lease = JobStatus.RUNNING, lease
        job.fence += 1
        job.attempts += 1
        job.expires_at = now + self.policy.lease_seconds
        job.fraction, job.progress_at, job.release_requested = 0.0, now, False
        self._tell(job.id, "job.running", job.fence)

    def has_place(self, job: ModelJob) -> bool:
        """Whether the job's tenant runs fewer jobs than it may."""
        limit = self.limits.get(job.tenant)
        return limit is None or sum(other.tenant == job.tenant for other in self.running()) < limit

    # Running

    def queued(self) -> list[ModelJob]:
        """Jobs that wait, whether they may run yet or not."""
        return [job for job in self.jobs.values() if job.status is JobStatus.QUEUED]

    def running(self, gpu_id: str | None = None) -> list[ModelJob]:
        """Jobs with an open lease, of one GPU or all."""
        return [
            job
            for job in self.jobs.values()
            if job.status is JobStatus.RUNNING and job.lease and gpu_id in (None, job.lease.gpu_id)
        ]

    def holds(self, lease: Lease) -> bool:
        """Whether a lease is its job's own."""
        job = self.jobs[lease.job_id]
        return job.status is JobStatus.RUNNING and job.fence == lease.fence

    def reported(self, lease: Lease, fraction: float, now: float) -> None:
        """A sign of life of a job and of its worker."""
        job = self.jobs[lease.job_id]
        job.has_begun = True
        job.expires_at = now + self.policy.lease_seconds
        if fraction != job.fraction:
            job.fraction, job.progress_at = fraction, now
        if lease.worker_id in self.workers:
            self.workers[lease.worker_id].seen_at = now

    def end(self, job: ModelJob, status: JobStatus, now: float) -> JobStatus:
        """running → an end, or back to the queue; a cancel wins unless the attempt failed for good."""
        for other in self.running():
            if other.lane == job.lane and other is not job and not other.has_begun:
                other.progress_at = now  # it has waited for this one
        if job.cancel_requested and status is not JobStatus.FAILED:
            self.situations["a cancel wins"] += status is not JobStatus.CANCELLED
            status = JobStatus.CANCELLED
        job.status, job.lease = status, None
        self._tell(job.id, "job.requeued" if status is JobStatus.QUEUED else f"job.{status}", job.fence)
        return status

    def release(self, job: ModelJob, now: float) -> JobStatus:
        """running → queued with the attempt given back."""
        if not job.cancel_requested:
            job.attempts -= 1
            job.not_before = now
        return self.end(job, JobStatus.QUEUED, now)

    def give_back(self, job: ModelJob, now: float) -> JobStatus:
        """running → queued with the attempt burned, or failed when it was the last."""
        last = job.attempts >= self.policy.max_attempts and not job.cancel_requested
        return self.end(job, JobStatus.FAILED if last else JobStatus.QUEUED, now)

    # The callers' and the operator's hand

    def cancel(self, job: ModelJob) -> None:
        """queued → cancelled; of a running job it is recorded."""
        if job.status is JobStatus.QUEUED:
            job.status = JobStatus.CANCELLED
            self.situations["a reserved job is cancelled"] += self._unreserve(job.id)
            self._tell(job.id, "job.cancelled")
        elif job.status is JobStatus.RUNNING and not job.cancel_requested:
            job.cancel_requested = True
            self._tell(job.id, "job.cancel_requested")

    def reprioritize(self, job: ModelJob, priority: float) -> None:
        """A queued job gets another place; what is kept for it stays kept."""
        job.priority = priority
        self._tell(job.id, "job.reprioritized")

    def set_limits(self, tenant: str, share: float | None, max_running: int | None) -> None:
        """A tenant gets others; what runs goes on."""
        self.shares[tenant], self.limits[tenant] = share, max_running
        self._tell(tenant, "tenant.changed")

    def switch(self, *, paused: bool) -> None:
        """Let queued jobs start, or not."""
        if paused or self.paused:
            self._tell("queue", "queue.paused" if paused else "queue.resumed")
        self.paused = paused

    def drain(
        self,
        gpu: ModelGpu,
        mode: DrainMode,
        deadline_at: float | None,
        on_deadline: OnDeadline,
        resume_at: float | None,
    ) -> None:
        """active, faulted → draining; whoever it was reserved for waits elsewhere."""
        gpu.state = GpuState.DRAINED if gpu.state is GpuState.DRAINED else GpuState.DRAINING
        gpu.deadline_at, gpu.on_deadline, gpu.resume_at = deadline_at, on_deadline, resume_at
        gpu.reserved_for = None
        if mode is DrainMode.CHECKPOINT:
            self._ask_back(gpu)
        self._tell(gpu.id, f"gpu.{gpu.state}")
        self._settle(gpu)

    def resume(self, gpu: ModelGpu) -> None:
        """draining, drained, faulted → active."""
        if gpu.state is not GpuState.ACTIVE:
            gpu.state, gpu.deadline_at, gpu.resume_at = GpuState.ACTIVE, None, None
            self._tell(gpu.id, "gpu.active")

    def fault(self, gpu: ModelGpu) -> None:
        """active → faulted."""
        if gpu.state is GpuState.ACTIVE:
            gpu.state, gpu.reserved_for = GpuState.FAULTED, None
            self._tell(gpu.id, "gpu.faulted")

    # What dies and what falls due

    def worker_added(self, worker: ModelWorker) -> None:
        """A process appears, if need be on a GPU that was already drained."""
        self.workers[worker.id] = worker
        gpu = self.gpus[worker.gpu_id]
        if gpu.state is GpuState.DRAINED:
            gpu.state = GpuState.DRAINING
            self._tell(gpu.id, "gpu.draining")

    def worker_gone(self, worker_id: str, now: float) -> list[ModelJob]:
        """Forget a worker and return the jobs that lost it."""
        lost = [job for job in self.running() if job.lease and job.lease.worker_id == worker_id]
        for job in lost:
            self.give_back(job, now)
        self.workers.pop(worker_id, None)
        self.settle_drains()
        return lost

    def overdue(self, now: float) -> list[ModelJob]:
        """Jobs whose lease has run out."""
        return [job for job in self.running() if job.expires_at < now]

    def silent(self, now: float) -> list[str]:
        """Workers that have not been heard for too long."""
        return [worker.id for worker in self.workers.values() if worker.seen_at < now - self.policy.worker_ttl_seconds]

    def reap(self, now: float) -> list[ModelJob]:
        """A round of a reaper; returns the jobs that it took back from silent workers."""
        expired, silent = self.overdue(now), self.silent(now)
        for job in expired:
            self.give_back(job, now)
        for worker_id in silent:
            del self.workers[worker_id]  # its leases run out by themselves
        for gpu in self.gpus.values():
            starts = any(worker.gpu_id == gpu.id and not worker.condemned for worker in self.workers.values())
            away = gpu.seen_at < now - self.policy.worker_ttl_seconds
            if gpu.reserved_for is not None and (away or not starts):
                self.situations["a GPU with a reservation is away"] += 1
                gpu.reserved_for = None
        for gpu in self.gpus.values():
            if gpu.state is GpuState.DRAINING and gpu.deadline_at is not None and gpu.deadline_at <= now:
                self._deadline(gpu, now)
        self.settle_drains()
        for gpu in self.gpus.values():
            if gpu.resume_at is not None and gpu.resume_at <= now:
                self.resume(gpu)
        self.situations["a lease runs out"] += len(expired)
        return expired

    def _deadline(self, gpu: ModelGpu, now: float) -> None:
        """A drain has taken too long: its jobs are asked for, or taken with the processes that run them."""
        if gpu.on_deadline is OnDeadline.CHECKPOINT:
            told = self._ask_back(gpu)
        else:
            for job in self.running(gpu.id):
                self.release(job, now)
                self.situations["a deadline kills"] += 1
            doomed = [w for w in self.workers.values() if w.gpu_id == gpu.id and not w.condemned]
            for worker in doomed:
                worker.condemned = True
            told = len(doomed) > 0
        if told:
            self._tell(gpu.id, "gpu.draining")

    def _ask_back(self, gpu: ModelGpu) -> bool:
        asked = [job for job in self.running(gpu.id) if not job.release_requested]
        for job in asked:
            job.release_requested = True
        return len(asked) > 0

    def settle_drains(self) -> None:
        """draining → drained where nothing is left."""
        for gpu in self.gpus.values():
            self._settle(gpu)

    def _settle(self, gpu: ModelGpu) -> None:
        here = [worker for worker in self.workers.values() if worker.gpu_id == gpu.id]
        if gpu.state is GpuState.DRAINING and not here and not self.running(gpu.id):
            gpu.state = GpuState.DRAINED
            self._tell(gpu.id, "gpu.drained")

    def _unreserve(self, job_id: str) -> bool:
        kept = [gpu for gpu in self.gpus.values() if gpu.reserved_for == job_id]
        for gpu in kept:
            gpu.reserved_for = None
        return len(kept) > 0

    def _tell(self, subject: str, what: str, fence: int | None = None) -> None:
        self.told[subject].append(what if fence is None else f"{what} {fence}")
