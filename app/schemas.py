"""The bodies of requests and answers, as pydantic models; their names and fields are the API's."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from scheduler.drains import Ending
from scheduler.explain import Blocker
from scheduler.params import PRIORITY_MAX, PRIORITY_MIN, PROMPT_MAX_CHARS
from scheduler.states import DrainMode, GpuState, JobStatus, OnDeadline, Stage

_EXACT = 2**53 - 1  # the largest integer that every JSON reader keeps exact
# Each model's own limits are narrower and are checked against it; these only keep numbers exact and finite.
Integer = Annotated[int, Field(ge=-_EXACT, le=_EXACT)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Item = TypeVar("Item")


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Parameters(_Request):
    """What decides how much a job needs. A field left out takes the model's default."""

    model: str | None = Field(None, description="A served model's id; by default the newest")
    negative_prompt: str | None = Field(None, description=f"At most {PROMPT_MAX_CHARS} characters")
    width: Integer | None = Field(None, description="Pixels; GET /v1/models has the limits")
    height: Integer | None = Field(None, description="Pixels")
    num_frames: Integer | None = None
    num_inference_steps: Integer | None = None
    guidance_scale: Number | None = None
    target_fps: Integer | None = Field(None, description="Frames per second")
    seed: Integer | None = Field(None, description="By default a random one, which the job then names")
    priority: Number = Field(1.0, description=f"{PRIORITY_MIN:g} to {PRIORITY_MAX:g}; higher goes first")


class JobFields(Parameters):
    """A job as a multipart form sends it, beside the file `image`."""

    prompt: str = Field(description=f"At most {PROMPT_MAX_CHARS} characters")
    not_before: str | None = Field(
        None,
        description="The earliest start, as an RFC 3339 time; at most 30 days ahead, and in the past it means at once",
        json_schema_extra={"format": "date-time"},
    )
    metadata: dict[str, str] = Field(default_factory=dict, description="Yours; in a form, a JSON object")


class JobRequest(JobFields):
    """A job as JSON."""

    image: str = Field(description="A data URI: `data:image/png;base64,…`; PNG, JPEG or WebP")


class EstimateRequest(Parameters):
    """A job without its image."""

    prompt: str | None = Field(
        None, description="Changes nothing; allowed so that a job's fields can be sent as they are"
    )


_FEW_GPUS = Field(min_length=1, max_length=1000, description="Ids of GPUs: all of them, or none where one is not known")


class DrainRequest(_Request):
    """Why a GPU is drained, and how. A job that is stopped goes back to the queue and costs it no attempt.

    Workers write no checkpoints yet: such a job starts anew elsewhere. A dry run tells the seconds that would be lost.
    """

    reason: str = Field(description="Shown to everyone who asks why the GPU takes no jobs")
    mode: Literal["finish", "checkpoint"] = Field(
        "finish", description="`finish`: running jobs end first; `checkpoint`: they stop at their next step"
    )
    deadline_seconds: Number | None = Field(
        None, description="When `on_deadline` happens to the jobs that still run; at most 30 days"
    )
    on_deadline: Literal["checkpoint", "kill"] = Field(
        "checkpoint", description="`checkpoint`: they stop at their next step; `kill`: their process is killed at once"
    )
    resume_after_seconds: Number | None = Field(
        None, description="When the GPU takes jobs again by itself; after the deadline, and at most 30 days"
    )
    dry_run: bool = Field(False, description="Change nothing, and answer with a `preview` of what would happen")


class DrainManyRequest(DrainRequest):
    """The same for several GPUs at once."""

    gpus: list[str] = _FEW_GPUS


class ResumeManyRequest(_Request):
    """Which GPUs are to take jobs again."""

    gpus: list[str] = _FEW_GPUS


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable; what a program should look at")
    request_id: str | None
    errors: list[dict[str, str]] | None = Field(None, description="`field` and `message` of each refused field")
    limit: float | None = Field(None, description="The limit that was exceeded")


class Page(BaseModel, Generic[Item]):
    """A list."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool = False
    next_cursor: str | None = None


class Progress(BaseModel):
    """How far a job is; `fraction` is of the whole job, `step` of its denoising `steps`."""

    fraction: float
    step: int
    steps: int


class JobParams(BaseModel):
    """What the job generates, defaults filled in."""

    width: int
    height: int
    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    target_fps: int
    seed: int
    negative_prompt: str | None


class Estimate(BaseModel):
    """What a job is predicted to need."""

    vram_bytes: int
    seconds: float
    weight: float
    plan: str


class Wait(BaseModel):
    """What holds a queued job back: the first thing that does."""

    code: Blocker = Field(description="Stable; what a program should look at")
    details: dict[str, Any] = Field(description="The numbers; which ones there are depends on the code")
    clears_when: str


class Expected(BaseModel):
    """A time that is as likely earlier as later than `p50`, and in 9 of 10 cases not later than `p90`."""

    p50: str
    p90: str


class QueueState(BaseModel):
    """Where a queued job stands; position 1 is next. Times are null where nobody can tell."""

    position: int
    position_exact: bool = Field(description="Whether it was counted; places far back are estimated")
    eta_seconds: float | None = Field(description="From now until `expected_start.p50`")
    wait_reason: str
    wait: Wait
    expected_start: Expected | None
    expected_finish: Expected | None


class MeasuredUse(BaseModel):
    """What the job took."""

    vram_peak_bytes: int | None
    run_seconds: float
    queue_seconds: float
    cost: float | None


class Failure(BaseModel):
    """Why the job failed."""

    code: str
    message: str


class Video(BaseModel):
    """The finished video."""

    url: str
    thumbnail_url: str
    bytes: int
    sha256: str
    num_frames: int
    fps: int
    duration_seconds: float


class Job(BaseModel):
    """A job; parts that do not apply are null."""

    id: str
    object: Literal["job"] = "job"
    status: JobStatus
    stage: Stage | None
    progress: Progress
    model: str
    prompt: str
    params: JobParams
    priority: float
    metadata: dict[str, str]
    estimate: Estimate
    queue: QueueState | None
    attempts: int
    max_attempts: int
    cancel_requested: bool = Field(description="A cancel has been asked for; a running job stops at its next step")
    gpu: str | None
    resumed_from_step: int | None
    measured: MeasuredUse | None
    error: Failure | None
    video: Video | None
    not_before: str | None = Field(
        description="A queued job does not start before this, as it was submitted or after a failed attempt"
    )
    created_at: str
    started_at: str | None
    finished_at: str | None


class LimitRange(BaseModel):
    """An inclusive range; the value must be divisible by `multiple_of`."""

    minimum: int | float
    maximum: int | float
    multiple_of: int


class Model(BaseModel):
    """A served model, in the shape OpenAI's clients read, with what it accepts."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix seconds; 0, for it is not recorded")
    owned_by: str
    architecture: str
    random_weights: bool = Field(description="The output is noise: the model is there to try the service out")
    limits: dict[str, LimitRange]
    defaults: dict[str, Any]


class GpuMemory(BaseModel):
    """The ledger of a GPU. `offered_bytes` is what a job's working set could get now; null where nobody can tell."""

    total_bytes: int
    headroom_bytes: int
    used_bytes: int | None
    free_bytes: int | None
    reserved_bytes: int
    offered_bytes: int | None
    problem: str | None


class GpuWorker(BaseModel):
    """A process that owns (a share of) the GPU."""

    id: str
    pid: int
    model: str
    resident_bytes: int
    ready: bool


class GpuLease(BaseModel):
    """A job that runs on the GPU."""

    job_id: str
    worker_id: str
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
    plan: str
    state: GpuState
    reason: str | None
    actor: str | None
    state_changed_at: str
    online: bool
    seen_at: str
    memory: GpuMemory
    utilization_percent: float | None
    temperature_celsius: float | None
    workers: list[GpuWorker]
    leases: list[GpuLease]
    drain: GpuDrain | None
    reservation: GpuReservation | None
    preview: DrainPreview | None = Field(description="In the answer to a dry run of a drain; null elsewhere")


class GpuEstimate(BaseModel):
    """What the job would need on one GPU, and whether it could ever run there."""

    gpu: str
    name: str
    state: GpuState
    online: bool
    fits: bool
    reason: str | None = Field(description="Why it does not fit, with the sizes")
    capacity_bytes: int = Field(description="The largest working set the GPU can give beside the resident model")
    model_bytes: int
    working_bytes: int
    estimate: Estimate


class JobEstimate(BaseModel):
    """What a job with these parameters would need."""

    object: Literal["estimate"] = "estimate"
    model: str
    params: dict[str, Any]
    priority: float
    fits: bool
    estimate: Estimate | None = Field(description="On the fastest GPU that fits; null where none does")
    gpus: list[GpuEstimate]


class Ready(BaseModel):
    """The service can take jobs and run them."""

    status: Literal["ready"] = "ready"
    workers: int = Field(description="Worker processes that are ready")


class Event(BaseModel):
    """Something that happened to a job, a GPU or the queue; `position` grows by one with each event."""

    position: int
    object: Literal["event"] = "event"
    at: str
    type: str
    subject: str = Field(description="The id of the job or GPU, or `queue`")
    tenant: str | None
    actor: str | None = Field(description="Who asked for it, where somebody did")
    data: dict[str, Any]


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


class PauseRequest(_Request):
    """Why the queue is paused."""

    reason: str = Field(description="Shown to everyone who asks why nothing starts; 1 to 500 characters")


class JobPatch(_Request):
    """What may be changed of a queued job."""

    priority: Number = Field(description=f"{PRIORITY_MIN:g} to {PRIORITY_MAX:g}; higher goes first")
