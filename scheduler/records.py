"""The records that cross the scheduler's border. All frozen; bytes and seconds say so in their names."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scheduler.footprint import Footprint
from scheduler.params import VideoParams
from scheduler.states import DrainMode, GpuState, JobStatus, OnDeadline, Outcome, Stage


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as submitted: checked, its image stored under `image_key`, not yet in the queue."""

    id: str
    model: str
    prompt: str
    params: VideoParams
    image_key: str
    priority: float = 1.0
    metadata: Mapping[str, str] = field(default_factory=dict)
    tenant: str = "default"
    not_before: float = 0.0  # seconds since 1970 by the database's clock; 0: at once
    idempotency_key: str | None = None
    payload_sha256: str = ""  # what the idempotency key vouches for


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job is: `step` of `steps` denoising steps, `fraction` of the whole in [0, 1]."""

    stage: Stage
    step: int
    steps: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What an attempt used. `vram_peak_bytes` is the process's peak; None where it was not measured."""

    vram_peak_bytes: int | None
    run_seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """A finished video: blob keys, and what is in them."""

    video_key: str
    thumbnail_key: str
    bytes: int
    sha256: str
    width: int
    height: int
    num_frames: int
    fps: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job or an attempt failed: a stable code and one line."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as everyone may see it. Times are seconds since 1970, by the database's clock."""

    id: str
    tenant: str
    model: str
    prompt: str
    params: VideoParams
    metadata: Mapping[str, str]
    image_key: str
    priority: float
    footprint: Footprint
    weight: float
    virtual_at: float  # the submit time that the rank goes by
    rank: float
    memory_class: int
    status: JobStatus
    version: tuple[int, int]  # grows with every change: (transition, progress report)
    progress: Progress | None
    attempts: int
    max_attempts: int
    not_before: float  # 0: it may be claimed
    ready_at: float  # when it could first be claimed, or will be
    cancel_requested: bool
    gpu_id: str | None
    measured: Measured | None
    error: JobError | None
    result: Result | None
    created_at: float
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to one attempt. `fence` grows with each lease of the job and guards every write."""

    job_id: str
    fence: int
    worker_id: str
    gpu_id: str
    reserved_bytes: int
    attempt: int
    plan: str
    model: str
    prompt: str
    params: VideoParams
    image_key: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One finished or running attempt, as history keeps it."""

    number: int
    fence: int
    gpu_id: str
    worker_id: str
    plan: str
    predicted_vram_bytes: int
    predicted_seconds: float
    started_at: float
    ended_at: float | None
    outcome: Outcome | None
    measured: Measured | None
    error: JobError | None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model some worker can run: `id` as callers name it, `architecture` as the catalog knows it."""

    id: str
    architecture: str
    weights_bytes: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """What a supervisor registers: the GPU, and the `model` and `plan` its worker runs there.

    `headroom_bytes` is never given to a job.
    """

    id: str
    host: str
    model: str
    kind: str
    name: str
    plan: str
    total_bytes: int
    headroom_bytes: int


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One look at a GPU. `problem` says why the memory is not known; the numbers are then None."""

    used_bytes: int | None
    free_bytes: int | None
    utilization_percent: float | None = None
    temperature_celsius: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that owns (a share of) a GPU. `resident_bytes` is its context and weights.

    Until it is `ready` it loads, and `resident_bytes` is what it is expected to need. `model` is the one it holds;
    it would replace it by one of `can_load` for a job.
    """

    id: str
    gpu_id: str
    pid: int
    model: str
    resident_bytes: int
    ready: bool
    can_load: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenLease:
    """An open lease as the operator sees it. `progress_at` is when its progress last moved."""

    job_id: str
    fence: int
    worker_id: str
    reserved_bytes: int
    started_at: float
    predicted_seconds: float
    expires_at: float
    release_requested: bool  # the worker has been asked to give the job back
    progress_at: float
    progress: Progress

    @property
    def remaining_seconds(self) -> float:
        """What is left of the prediction, by the progress made."""
        return (1.0 - self.progress.fraction) * self.predicted_seconds


@dataclass(frozen=True, slots=True)
class Drain:
    """How a GPU is being emptied. Times are seconds since 1970, by the database's clock; None: never."""

    mode: DrainMode
    asked_at: float
    deadline_at: float | None
    on_deadline: OnDeadline
    resume_at: float | None


@dataclass(frozen=True, slots=True)
class Reservation:
    """A GPU kept for a job that has waited too long; `start_at` is when it should have the memory."""

    job_id: str
    reserved_bytes: int
    start_at: float
    made_at: float


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU with all that is known of it now."""

    info: GpuInfo
    state: GpuState
    reason: str | None
    actor: str | None
    state_changed_at: float
    sample: GpuSample
    seen_at: float
    online: bool  # its supervisor reported within the time to live
    drain: Drain | None
    reservation: Reservation | None
    workers: tuple[Worker, ...]
    leases: tuple[OpenLease, ...]

    @property
    def reserved_bytes(self) -> int:
        """What the ledger has given away: resident processes and open leases."""
        return sum(w.resident_bytes for w in self.workers) + sum(x.reserved_bytes for x in self.leases)
