"""The queue as a plain model: what a sequence of calls must lead to, without a database."""

from dataclasses import dataclass, field

from scheduler.policy import Policy
from scheduler.records import Lease
from scheduler.states import GpuState, JobStatus


@dataclass
class ModelJob:
    """What must be true of a job."""

    id: str
    rank: float
    need_bytes: int
    not_before: float
    status: JobStatus = JobStatus.QUEUED
    fence: int = 0
    attempts: int = 0
    cancel_requested: bool = False
    lease: Lease | None = None
    expires_at: float = 0.0


@dataclass
class ModelWorker:
    """What must be true of a worker."""

    id: str
    gpu_id: str
    resident_bytes: int
    seen_at: float


@dataclass
class ModelGpu:
    """What must be true of a GPU."""

    id: str
    usable_bytes: int  # total - headroom
    state: GpuState = GpuState.ACTIVE


@dataclass
class QueueModel:
    """All jobs, workers and GPUs; each method is one call's effect."""

    policy: Policy
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    workers: dict[str, ModelWorker] = field(default_factory=dict)
    gpus: dict[str, ModelGpu] = field(default_factory=dict)

    def committed_bytes(self, gpu_id: str) -> int:
        """What residents and open leases of a GPU hold together."""
        resident = sum(w.resident_bytes for w in self.workers.values() if w.gpu_id == gpu_id)
        return resident + sum(job.need_bytes for job in self.running() if job.lease and job.lease.gpu_id == gpu_id)

    def running(self) -> list[ModelJob]:
        """Jobs with an open lease."""
        return [job for job in self.jobs.values() if job.status is JobStatus.RUNNING]

    def best(self, worker_id: str, free_bytes: int, now: float) -> ModelJob | None:
        """The job a claim must return."""
        worker = self.workers.get(worker_id)
        if worker is None or self.gpus[worker.gpu_id].state is not GpuState.ACTIVE:
            return None
        free = min(free_bytes, self.gpus[worker.gpu_id].usable_bytes - self.committed_bytes(worker.gpu_id))
        fitting = [
            job
            for job in self.jobs.values()
            if job.status is JobStatus.QUEUED and job.not_before <= now and job.need_bytes <= free
        ]
        return min(fitting, key=lambda job: (-job.rank, job.id), default=None)

    def claimed(self, job: ModelJob, lease: Lease, now: float) -> None:
        """queued → running."""
        job.status, job.lease = JobStatus.RUNNING, lease
        job.fence += 1
        job.attempts += 1
        job.expires_at = now + self.policy.lease_seconds

    def holds(self, lease: Lease) -> bool:
        """Whether a lease is its job's own."""
        job = self.jobs[lease.job_id]
        return job.status is JobStatus.RUNNING and job.fence == lease.fence

    def end(self, job: ModelJob, status: JobStatus) -> JobStatus:
        """running → an end, or back to the queue; a cancel wins unless the attempt failed for good."""
        if job.cancel_requested and status is not JobStatus.FAILED:
            status = JobStatus.CANCELLED
        job.status, job.lease = status, None
        return status

    def give_back(self, job: ModelJob) -> JobStatus:
        """running → queued with the attempt burned, or failed when it was the last."""
        last = job.attempts >= self.policy.max_attempts and not job.cancel_requested
        return self.end(job, JobStatus.FAILED if last else JobStatus.QUEUED)

    def worker_gone(self, worker_id: str) -> list[ModelJob]:
        """Forget a worker and return the jobs that lost it."""
        lost = [job for job in self.running() if job.lease and job.lease.worker_id == worker_id]
        for job in lost:
            self.give_back(job)
        self.workers.pop(worker_id, None)
        self.settle_drains()
        return lost

    def settle_drains(self) -> None:
        """draining → drained where nothing is left."""
        for gpu in self.gpus.values():
            if gpu.state is GpuState.DRAINING and self.committed_bytes(gpu.id) == 0:
                gpu.state = GpuState.DRAINED
