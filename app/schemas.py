"""The bodies of requests and answers, as pydantic models; their names and fields are the API's."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from scheduler.params import PRIORITY_MAX, PRIORITY_MIN, PROMPT_MAX_CHARS
from scheduler.states import GpuState, JobStatus, Stage

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
    metadata: dict[str, str] = Field(default_factory=dict, description="Yours; in a form, a JSON object")


class JobRequest(JobFields):
    """A job as JSON."""

    image: str = Field(description="A data URI: `data:image/png;base64,…`; PNG, JPEG or WebP")


class EstimateRequest(Parameters):
    """A job without its image."""

    prompt: str | None = Field(
        None, description="Changes nothing; allowed so that a job's fields can be sent as they are"
    )


class DrainRequest(_Request):
    """Why a GPU is drained, and how."""

    reason: str = Field(description="Shown to everyone who asks why the GPU takes no jobs")
    mode: str = Field("finish", description="`finish`: running jobs end first. The only mode of this version")


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


class QueueState(BaseModel):
    """Where a queued job stands; position 1 is next."""

    position: int
    eta_seconds: float | None
    wait_reason: str


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
    expires_at: str
    stage: Stage
    progress: Progress


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
