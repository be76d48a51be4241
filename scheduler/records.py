"""The records that cross the scheduler's border. All frozen; bytes and seconds say so in their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scheduler.footprint import Footprint
from scheduler.params import VideoParams
from scheduler.states import DrainMode, GpuState, JobStatus, OnDeadline, Outcome, Stage, Window


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
    window: Window | None = None  # it starts only then; None: at any time
    idempotency_key: str | None = None
    payload_sha256: str = ""  # what the idempotency key vouches for
    deadline_at: float | None = None  # a job that has not ended by then fails
    retry_of: str | None = None  # the job that this one repeats
    webhook_url: str | None = None
    webhook_events: Sequence[str] = ()  # the types of event that the webhook is told of
    result_ttl_seconds: float | None = None  # how long the video is kept; None: as long as the settings say
    traceparent: str | None = None  # what its spans belong to; None: it is not traced


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job is: `step` of `steps` denoising steps, `fraction` of the whole in [0, 1]."""

    stage: Stage
    step: int
    steps: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What an attempt used; None where it was not measured.

    `vram_peak_bytes` is the process's peak, `working_peak_bytes` what of it came with the job. `run_seconds` is
    `fixed_seconds + steps * step_seconds`, where `steps` are those that this attempt ran: all but the ones that a
    checkpoint had done. `sharing` is the largest number of jobs in one forward pass with it, itself included: with more
    than one, peak and seconds are not the job's alone. `energy_joules` is its share of what the GPU used.
    """

    vram_peak_bytes: int | None
    run_seconds: float
    working_peak_bytes: int | None = None
    steps: int | None = None
    step_seconds: float | None = None
    fixed_seconds: float | None = None
    sharing: int = 1
    energy_joules: float | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stored state of a denoising run: the blob `key` holds the latents after `step` steps.

    `fingerprint` says of what run they are (`workers.checkpoints`); only a run with the same may go on from them.
    """

    key: str
    step: int
    fingerprint: str
    plan: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a job tells its caller beside its state: a stable code and one line."""

    at: float
    code: str
    message: str


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
    preview_key: str | None = None
    expires_at: float | None = None  # when its files go; None: with the job
    expired: bool = False


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
    gate: str  # the tenant whose limit of running jobs a claim must heed, or ""
    model: str
    prompt: str
    params: VideoParams
    metadata: Mapping[str, str]
    image_key: str
    priority: float
    footprint: Footprint
    plan_reason: str  # why that plan
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
    window: Window | None  # it starts only then
    cancel_requested: bool
    deadline_at: float | None  # when it fails if it has not ended
    retry_of: str | None
    webhook_url: str | None
    webhook_events: tuple[str, ...]
    result_ttl_seconds: float | None
    gpu_id: str | None
    gpu_name: str | None  # None too where the fleet has forgotten it
    gpu_kind: str | None
    resumed_from_step: int | None  # of the last attempt
    checkpoint_step: int | None  # what a next attempt would go on from
    notices: tuple[Notice, ...]
    measured: Measured | None
    error: JobError | None
    result: Result | None
    created_at: float
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to one attempt. `fence` grows with each lease of the job and guards every write.

    A worker's leases in one `lane` run one after another, so the ledger counts the largest of them; lanes add up.
    `checkpoint` is what an earlier attempt left to go on from. The job waited from `queued_at`, when it
    was first ready or an attempt gave it back, to `claimed_at`: seconds since 1970, by the database's clock.
    """

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
    predicted_vram_bytes: int
    queued_at: float
    claimed_at: float
    lane: int = 0
    checkpoint: Checkpoint | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One finished or running attempt, as history keeps it."""

    number: int
    fence: int
    gpu_id: str
    worker_id: str
    plan: str
    shape: str
    gpu_kind: str
    predicted_vram_bytes: int
    predicted_seconds: float
    resumed_from_step: int | None
    started_at: float
    ended_at: float | None
    outcome: Outcome | None
    measured: Measured | None
    error: JobError | None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model some worker can run: `id` as callers name it, `architecture` as the catalog knows it.

    `held` says why its jobs wait, whatever GPU they could have; None while they do not.
    """

    id: str
    architecture: str
    weights_bytes: int
    fingerprint: str
    held: str | None = None


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """What a supervisor registers: the GPU, and the `model` and `plans` its workers run there, the fastest plan first.

    `headroom_bytes` is never given to a job.
    """

    id: str
    host: str
    model: str
    kind: str
    name: str
    plans: tuple[str, ...]
    total_bytes: int
    headroom_bytes: int


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One look at a GPU. `problem` says why the memory is not known; the numbers are then None.

    `foreign_bytes` is what of `used_bytes` others hold than our processes, the driver included.
    """

    used_bytes: int | None
    free_bytes: int | None
    utilization_percent: float | None = None
    temperature_celsius: float | None = None
    problem: str | None = None
    foreign_bytes: int | None = None
    power_watts: float | None = None


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
    plan: str | None = None  # whose weights it holds; None: none, they are unloaded


@dataclass(frozen=True, slots=True)
class OpenLease:
    """An open lease as the operator sees it. `progress_at` is when its progress last moved."""

    job_id: str
    fence: int
    worker_id: str
    lane: int
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
    """How a GPU is being emptied. Times are seconds since 1970, by the database's clock; None: never.

    At `stopped_at` the stop of its host was asked for (`provision`); such a GPU counts as one that can come back.
    """

    mode: DrainMode
    asked_at: float
    deadline_at: float | None
    on_deadline: OnDeadline
    resume_at: float | None
    stopped_at: float | None = None


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
    def is_stopped(self) -> bool:
        """Whether its host was stopped for want of work, and may be started again."""
        return self.drain is not None and self.drain.stopped_at is not None

    @property
    def reserved_bytes(self) -> int:
        """What the ledger has given away: resident processes and open leases, those of one lane once."""
        lanes: dict[tuple[str, int], int] = {}
        for lease in self.leases:
            lane = (lease.worker_id, lease.lane)
            lanes[lane] = max(lanes.get(lane, 0), lease.reserved_bytes)
        return sum(w.resident_bytes for w in self.workers) + sum(lanes.values())
