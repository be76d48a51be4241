"""The API's objects as typed dictionaries; the names are the server's. Parts that do not apply are None."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar

T = TypeVar("T")
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Window = Literal["off_peak"]


class Parameters(TypedDict, total=False):
    """What decides how much a job needs, and when it runs; a field left out, or None, takes the model's default.

    `width` and `height` in pixels, `target_fps` in frames per second; `reelq models` shows the limits and presets. With
    a `window` it starts only in that.
    """

    model: str | None
    negative_prompt: str | None
    width: int | None
    height: int | None
    num_frames: int | None
    num_inference_steps: int | None
    guidance_scale: float | None
    target_fps: int | None
    seed: int | None
    preset: str | None
    allow_int8: bool | None
    priority: float | None
    window: Window | None


class JobFields(Parameters, total=False):
    """What else a job may say. Times are datetimes with a zone, or RFC 3339 text.

    It starts not before `not_before` and fails at `deadline`; its video is kept for `result_ttl_seconds`. The states
    that `webhook_events` names (job.running, job.succeeded, …; by default the ends) are told to `webhook_url`.
    """

    not_before: datetime | str | None
    deadline: datetime | str | None
    result_ttl_seconds: float | None
    webhook_url: str | None
    webhook_events: Sequence[str] | None
    metadata: Mapping[str, str] | None


class Filters(TypedDict, total=False):
    """Which jobs to list; `tenant` is for admins. Times are datetimes with a zone, or RFC 3339 text.

    `q` is the beginning of an id, or words of the prompt; `gpu` is one that has had the job.
    """

    status: Status | Sequence[Status] | None
    model: str | None
    q: str | None
    gpu: str | None
    tenant: str | None
    created_after: datetime | str | None
    created_before: datetime | str | None


class Page(TypedDict, Generic[T]):
    """A part of a list; `next_cursor` is where the next begins."""

    object: str
    data: list[T]
    has_more: bool
    next_cursor: str | None


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
    expires_at: str | None
    expired: bool


class Job(TypedDict):
    """A job."""

    id: str
    object: str
    tenant: str
    status: Status
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
    window: Window | None
    deadline: str | None
    retry_of: str | None
    webhook_url: str | None
    webhook_events: list[str]
    result_ttl_seconds: float | None
    created_at: str
    started_at: str | None
    finished_at: str | None


class JobRefusal(TypedDict):
    """Why nothing was done with one of several jobs; `status` is an HTTP one."""

    status: int
    code: str
    detail: str
    retry_after_seconds: int | None


class JobOutcome(TypedDict):
    """What became of one of several jobs: either `job` (of a retry, the new one) or `problem` is None."""

    id: str
    object: str
    job: Job | None
    problem: JobRefusal | None


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


class WebhookEndpoint(TypedDict):
    """A URL that jobs have named. While it is disabled, what it is to be told waits."""

    id: str
    object: str
    tenant: str
    url: str
    state: Literal["enabled", "disabled"]
    reason: str | None
    failing_since: str | None
    disabled_at: str | None
    created_at: str


class DeliveryTry(TypedDict):
    """One try at a delivery; `status` is that of the answer, `error` why it did not count."""

    number: int
    at: str
    seconds: float
    status: int | None
    error: str | None


class Delivery(TypedDict):
    """What an endpoint is told, `held` while that is disabled; `payload` and `log` are not there in a list."""

    id: str
    object: str
    endpoint: str
    url: str
    job: str
    type: str
    status: Literal["pending", "delivered", "failed"]
    held: bool
    tries: int
    created_at: str
    next_try_at: str | None
    delivered_at: str | None
    given_up_at: str | None
    payload: NotRequired[dict[str, Any]]
    log: NotRequired[list[DeliveryTry]]


class WebhookSecret(TypedDict):
    """The secret that signs webhooks, and all those that still do."""

    object: str
    secret: str
    in_force: list[str]


class AccountKey(TypedDict):
    """The API key of the request."""

    id: str
    name: str
    scopes: list[str]


class AccountLimits(TypedDict):
    """What a tenant may do; None: no limit."""

    share: float | None
    max_queued: int | None
    max_running: int | None
    max_priority: float | None
    submits_per_minute: int | None
    requests_per_minute: int | None


class AccountUsage(TypedDict):
    """A tenant's jobs that have not ended."""

    queued: int
    running: int


class Account(TypedDict):
    """The tenant that the caller acts for; `key` is None where the service is open."""

    object: str
    tenant: str
    key: AccountKey | None
    limits: AccountLimits
    usage: AccountUsage


class JobEstimate(TypedDict):
    """What a job would need, and where and when it would run; `estimate` is None where it fits nowhere."""

    object: str
    model: str
    params: Params
    priority: float
    fits: bool
    estimate: Estimate | None
    reason: str | None
    position: int | None
    position_exact: bool | None
    expected_start: Expected | None
    expected_finish: Expected | None
    wait_reason: str | None
    wait: Wait | None
    cost: float | None
    gpus: list[dict[str, Any]]


# Larger and still growing objects: read what you know, ignore the rest.
Gpu = dict[str, Any]
GpuPage = dict[str, Any]  # a Page of them
Model = dict[str, Any]
ModelPage = dict[str, Any]  # a Page of them
QueueStatus = dict[str, Any]
CostReport = dict[str, Any]
AlertPage = dict[str, Any]  # a Page of alerts
AdviceReport = dict[str, Any]
CapacityStatus = dict[str, Any]

ENDED = frozenset({"succeeded", "failed", "cancelled"})


def has_ended(job: Mapping[str, Any]) -> bool:
    """Tell whether `job` can never change again."""
    return job["status"] in ENDED
