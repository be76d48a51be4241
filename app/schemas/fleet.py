"""The GPUs and the queue, as an operator sees them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.schemas.common import Progress
from scheduler.drains import Ending
from scheduler.states import DrainMode, GpuState, OnDeadline, Stage


class GpuMemory(BaseModel):
    """The ledger of a GPU. `offered_bytes` is what a job's working set could get now; null where nobody can tell.

    `foreign_bytes` is what of `used_bytes` others hold, the driver included.
    """

    total_bytes: int
    headroom_bytes: int
    used_bytes: int | None
    free_bytes: int | None
    foreign_bytes: int | None
    reserved_bytes: int
    offered_bytes: int | None
    problem: str | None


class GpuWorker(BaseModel):
    """A process that owns (a share of) the GPU."""

    id: str
    pid: int
    model: str
    plan: str | None = Field(description="Whose weights it holds; null where it holds none")
    resident_bytes: int
    ready: bool


class GpuLease(BaseModel):
    """A job that runs on the GPU."""

    job_id: str
    worker_id: str
    lane: int = Field(description="The worker's jobs in one lane run one after another, and share a reservation")
    reserved_bytes: int
    started_at: str
    predicted_seconds: float
    expires_at: str
    release_requested: bool = Field(description="The job stops at its next step and goes back to the queue")
    stage: Stage
    progress: Progress


class GpuDrain(BaseModel):
    """How the GPU is being emptied, as it was asked for last."""

    mode: DrainMode
    asked_at: str
    deadline_at: str | None
    on_deadline: OnDeadline
    resume_at: str | None


class GpuReservation(BaseModel):
    """The GPU is kept for a job that has waited too long; `start_at` is when it should have the memory."""

    job_id: str
    reserved_bytes: int
    start_at: str
    made_at: str


class JobForecast(BaseModel):
    """What a drain would make of a running job, by the predictions."""

    job_id: str
    ending: Ending = Field(description="`finishes`; or `released` or `killed`: it goes back to the queue")
    in_seconds: float
    lost_seconds: float = Field(description="How long it would have run in vain")


class DrainPreview(BaseModel):
    """What a drain would do to the GPU, by the predictions."""

    empty_in_seconds: float = Field(description="Until its last job would be gone")
    jobs: list[JobForecast]


class Gpu(BaseModel):
    """A GPU with all that is known of it."""

    id: str
    object: Literal["gpu"] = "gpu"
    host: str
    name: str
    kind: str
    model: str
    plans: list[str] = Field(description="What its workers run, the fastest first")
    state: GpuState
    reason: str | None
    actor: str | None
    state_changed_at: str
    online: bool
    seen_at: str
    memory: GpuMemory
    utilization_percent: float | None
    temperature_celsius: float | None
    power_watts: float | None
    workers: list[GpuWorker]
    leases: list[GpuLease]
    drain: GpuDrain | None
    reservation: GpuReservation | None
    preview: DrainPreview | None = Field(description="In the answer to a dry run of a drain; null elsewhere")


class ByteLevel(BaseModel):
    """Bytes over some time."""

    mean: int
    max: int


class Level(BaseModel):
    """A gauge over some time: percent, watts, or degrees Celsius."""

    mean: float
    max: float


class SamplePoint(BaseModel):
    """What was seen of a GPU from `at` on, for the step of its list; null where nothing was measured."""

    at: str
    samples: int = Field(description="Looks at the GPU")
    problems: int = Field(description="Of these, without a reading of the memory")
    seconds: float = Field(description="That the samples stand for: each for the time since the one before")
    busy_seconds: float = Field(description="Of these, with a running job")
    hot_share: float | None = Field(description="The share of samples with a utilisation above 80 %, from 0 to 1")
    used_bytes: ByteLevel | None
    foreign_bytes: ByteLevel | None = Field(description="Held by others, the driver included")
    reserved_bytes: ByteLevel | None = Field(description="Promised to worker processes and running jobs")
    utilization_percent: Level | None
    power_watts: Level | None
    temperature_celsius: Level | None


class SampleList(BaseModel):
    """A GPU over time: points `step_seconds` apart, without those in which nobody looked."""

    object: Literal["list"] = "list"
    gpu: str
    step_seconds: int
    data: list[SamplePoint]


class Ready(BaseModel):
    """The service takes jobs, and runs them unless the operator holds it back."""

    status: Literal["ready"] = "ready"
    workers: int = Field(description="Worker processes that are ready")
    drained_gpus: int = Field(description="GPUs that the operator drains or has drained")


class QueueClass(BaseModel):
    """The jobs that are ready to start and reserve about as much memory, `up_to_bytes` beside the resident model."""

    model: str
    plan: str
    up_to_bytes: int
    jobs: int


class QueueReservation(BaseModel):
    """A GPU that is kept for a job which has waited too long; `start_at` is when it should have the memory."""

    gpu: str
    job: str
    reserved_bytes: int
    start_at: str
    made_at: str


class QueueStatus(BaseModel):
    """The queue as a whole."""

    object: Literal["queue"] = "queue"
    paused: bool
    pause_reason: str | None
    paused_at: str | None
    paused_by: str | None
    ready: int = Field(description="Queued jobs that may start as soon as a GPU has room")
    deferred: int = Field(description="Queued jobs that may not start yet: see a job's `not_before`")
    running: int
    oldest_wait_seconds: float | None = Field(description="How long the oldest queued job waits; null without one")
    classes: list[QueueClass]
    reservations: list[QueueReservation]
