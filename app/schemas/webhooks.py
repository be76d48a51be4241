"""Webhooks: what is sent, where it goes, and the log of it."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.schemas.jobs import Failure
from scheduler.deliveries import DeliveryStatus
from scheduler.states import JobStatus


class WebhookVideo(BaseModel):
    """Where the files of a finished video are.

    A service that was not told its `public_url` cannot say: all URLs are null then, and the files are those of the job
    with this id, at the address where it was submitted.
    """

    url: str | None = Field(description="Whole; null where the service was not told its `public_url`")
    thumbnail_url: str | None = Field(description="Whole, or null, as `url`")
    preview_url: str | None = Field(description="Whole, or null, as `url`; null too where the job has no preview")


class WebhookJob(BaseModel):
    """The job of an event, as it was then."""

    id: str
    object: Literal["job"] = "job"
    status: JobStatus
    model: str
    metadata: dict[str, str]
    error: Failure | None
    video: WebhookVideo | None


class WebhookPayload(BaseModel):
    """What an endpoint receives, in the form and with the signature of Standard Webhooks.

    The header `webhook-id` is the delivery's id, the same in each try: a receiver that has seen it need do nothing.
    """

    type: Literal["job.running", "job.succeeded", "job.failed", "job.cancelled"]
    timestamp: str = Field(description="When it happened")
    data: WebhookJob


class WebhookEndpoint(BaseModel):
    """A URL that jobs of the tenant have named. While it is disabled, what it is to be told waits."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    tenant: str
    url: str
    state: Literal["enabled", "disabled"]
    reason: str | None = Field(description="Why it is disabled")
    failing_since: str | None = Field(description="Null while deliveries succeed")
    disabled_at: str | None
    created_at: str


class WebhookDelivery(BaseModel):
    """Something that an endpoint is told."""

    id: str = Field(description="Also what the receiver gets as `webhook-id`")
    object: Literal["webhook_delivery"] = "webhook_delivery"
    endpoint: str = Field(description="Its id")
    url: str
    job: str
    type: str
    status: DeliveryStatus
    held: bool = Field(description="Whether it is pending but not tried, because its endpoint is disabled")
    tries: int
    created_at: str
    next_try_at: str | None = Field(description="Null where none is to come, or while the endpoint is disabled")
    delivered_at: str | None
    given_up_at: str | None


class WebhookTry(BaseModel):
    """One try at a delivery; `status` is that of the answer, `error` why it did not count."""

    number: int
    at: str
    seconds: float
    status: int | None
    error: str | None


class WebhookDeliveryDetail(WebhookDelivery):
    """A delivery with what is sent, and each try at it."""

    payload: dict[str, Any]
    log: list[WebhookTry]


class WebhookSecret(BaseModel):
    """What the tenant's webhooks are signed with."""

    object: Literal["webhook_secret"] = "webhook_secret"
    secret: str = Field(description="The newest one, as libraries for Standard Webhooks take it: `whsec_…`")
    in_force: list[str] = Field(description="All that signatures are made with, the newest first")
