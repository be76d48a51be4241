"""The API's objects as typed dictionaries; the names are the server's. Parts that do not apply are None."""

from collections.abc import Mapping
from typing import Any, TypedDict


class Progress(TypedDict):
    """How far a job is: `step` of `steps` denoising steps, `fraction` of the whole in [0, 1]."""

    fraction: float
    step: int
    steps: int


class Params(TypedDict):
    """What a job generates; `width` and `height` in pixels, `target_fps` in frames per second."""

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


class Wait(TypedDict):
    """What holds a queued job back: a stable code, the numbers behind it, and what would clear it."""

    code: str
    details: dict[str, Any]
    clears_when: str


class Expected(TypedDict):
    """A time that is as likely earlier as later than `p50`, and in 9 of 10 cases not later than `p90`."""

    p50: str
    p90: str


class Waiting(TypedDict):
    """Where a queued job stands; position 1 is next, `eta_seconds` is until it should start."""

    position: int
    position_exact: bool
    eta_seconds: float | None
    wait_reason: str
    wait: Wait
    expected_start: Expected | None
    expected_finish: Expected | None


class Failure(TypedDict):
    """Why a job failed."""

    code: str
    message: str


class Estimate(TypedDict):
    """What a job is predicted to need."""

    vram_bytes: int
    seconds: float
    weight: float
    plan: str
    plan_reason: str


class Measured(TypedDict):
    """What a job took in its last attempt; above 1 `sharing`, peak and seconds are not its alone."""

    vram_peak_bytes: int | None
    working_peak_bytes: int | None
    run_seconds: float
    queue_seconds: float
    stage_seconds: dict[str, float] | None
    steps: int | None
    step_seconds: float | None
    sharing: int
    energy_joules: float | None
    cost: float | None


class Notice(TypedDict):
    """Something a job tells beside its state: a stable code and one line."""

    at: str
    code: str
    message: str


class Video(TypedDict):
    """A finished video."""

    url: str
    thumbnail_url: str
    preview_url: str | None
    bytes: int
    sha256: str
    num_frames: int
    fps: int
    duration_seconds: float


class Job(TypedDict):
    """A job."""

    id: str
    object: str
    status: str
    stage: str | None
    progress: Progress
    model: str
    prompt: str
    params: Params
    priority: float
    metadata: dict[str, str]
    estimate: Estimate
    queue: Waiting | None
    attempts: int
    max_attempts: int
    cancel_requested: bool
    gpu: str | None
    resumed_from_step: int | None
    checkpoint_step: int | None
    notices: list[Notice]
    measured: Measured | None
    error: Failure | None
    video: Video | None
    not_before: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None


class Event(TypedDict):
    """Something that happened; `subject` is the id of a job, GPU or model, or `queue`, and `actor` who asked for it."""

    position: int
    object: str
    at: str
    type: str
    subject: str
    tenant: str | None
    actor: str | None
    data: dict[str, Any]


# Larger and still growing objects: read what you know, ignore the rest.
Gpu = dict[str, Any]
Model = dict[str, Any]
JobEstimate = dict[str, Any]
QueueStatus = dict[str, Any]
Page = dict[str, Any]  # {"object": "list", "data": […], "has_more": false, "next_cursor": null}

ENDED = frozenset({"succeeded", "failed", "cancelled"})


def has_ended(job: Mapping[str, Any]) -> bool:
    """Tell whether `job` can never change again."""
    return job["status"] in ENDED
