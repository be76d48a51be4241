"""A job, and what happens to it."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.schemas.common import Progress
from scheduler.states import JobStatus, Stage, Window
from scheduler.waits import Blocker


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
    preset: str
    allow_int8: bool


class Estimate(BaseModel):
    """What a job is predicted to need."""

    vram_bytes: int
    seconds: float
    weight: float
    plan: str = Field(description="The way to run the model that this is for: its precision, and how it saves memory")
    plan_reason: str


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
    """What the job took in its last attempt; null where it is not known."""

    vram_peak_bytes: int | None = Field(description="Of the whole process")
    working_peak_bytes: int | None = Field(description="What of it came with the job")
    run_seconds: float
    queue_seconds: float
    stage_seconds: dict[str, float] | None
    steps: int | None = Field(description="Those that the attempt ran: all but the ones that a checkpoint had done")
    step_seconds: float | None = Field(description="The mean")
    sharing: int = Field(
        description="The most jobs in one forward pass with it, itself included; above 1 peak and seconds are shared"
    )
    energy_joules: float | None = Field(description="Its share of what the GPU used")
    cost: float | None = Field(description="By what an hour of a GPU costs; null where that is not set")


class Notice(BaseModel):
    """Something the job tells beside its state."""

    at: str
    code: str = Field(description="Stable; what a program should look at")
    message: str


class Failure(BaseModel):
    """Why the job failed."""

    code: str
    message: str


class Video(BaseModel):
    """The finished video."""

    url: str
    thumbnail_url: str
    preview_url: str | None = Field(description="A small animated WebP; null where the job has none")
    bytes: int
    sha256: str
    num_frames: int
    fps: int
    duration_seconds: float
    expires_at: str | None = Field(description="When it is deleted; null where it stays as long as the job")
    expired: bool = Field(description="It has been deleted: its URLs are answered 410")


class Job(BaseModel):
    """A job; parts that do not apply are null."""

    id: str
    object: Literal["job"] = "job"
    tenant: str
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
    cancel_requested: bool = Field(
        description="It was asked to stop, by a cancel or by its deadline; a running job stops at its next step"
    )
    deadline: str | None = Field(description="A job that has not ended by then fails, as `deadline_exceeded`")
    retry_of: str | None = Field(description="The job that this one repeats")
    webhook_url: str | None = Field(description="Who is told what becomes of it")
    webhook_events: list[str] = Field(description="What is told there; empty without a `webhook_url`")
    result_ttl_seconds: float | None = Field(
        description="How long its video is kept after its end, as it was submitted; null: as is the rule here"
    )
    gpu: str | None
    resumed_from_step: int | None = Field(description="Where the last attempt went on from a checkpoint")
    checkpoint_step: int | None = Field(description="Where a next attempt would go on from")
    notices: list[Notice]
    measured: MeasuredUse | None
    error: Failure | None
    video: Video | None
    not_before: str | None = Field(
        description="A queued job does not start before this, as it was submitted, until its window opens, or after a "
        "failed attempt"
    )
    window: Window | None = Field(description="It starts only in this window; one that runs when it closes runs on")
    created_at: str
    started_at: str | None
    finished_at: str | None


class JobRefusal(BaseModel):
    """Why nothing was done with one of several jobs: what the call for that job alone would have been answered."""

    status: int
    code: str = Field(description="Stable; what a program should look at")
    detail: str
    retry_after_seconds: int | None = Field(description="When to ask again, where it is worth while")


class JobOutcome(BaseModel):
    """What became of one of several jobs: either `job` or `problem` is null."""

    object: Literal["job.outcome"] = "job.outcome"
    id: str = Field(description="The id that was asked about")
    job: Job | None = Field(description="The job as it is now; of a retry, the new one")
    problem: JobRefusal | None


class Event(BaseModel):
    """Something that happened to a job, a GPU, a model or the queue; `position` grows by one with each event."""

    position: int
    object: Literal["event"] = "event"
    at: str
    type: str
    subject: str = Field(description="The id of the job, GPU or model, or `queue`")
    tenant: str | None
    actor: str | None = Field(description="Who asked for it, where somebody did")
    data: dict[str, Any]
