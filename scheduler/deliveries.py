"""Deliveries of webhooks: those to try now, where each stands, the tries at them and the endpoints they go to."""

from dataclasses import dataclass, field
from enum import StrEnum


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"  # it will be tried (again), or waits for its endpoint to be enabled
    DELIVERED = "delivered"
    FAILED = "failed"  # given up


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that is to be tried now: the very text to send, and the secrets to sign it with, newest first."""

    delivery_id: str
    endpoint_id: str
    tenant: str
    url: str
    payload: str
    secrets: tuple[str, ...] = field(repr=False)
    job_id: str | None  # None: it tells of an alert
    traceparent: str | None  # of the job, where it is traced


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL of a tenant. Times are seconds since 1970; `failing_since` is None while deliveries succeed."""

    id: str
    tenant: str
    url: str
    created_at: float
    failing_since: float | None
    disabled_at: float | None
    disabled_reason: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something that an endpoint is told, named by `id` in each try. `next_at` is None where none is to come.

    `job_id` is the id of what it tells of: a job, or an alert.
    """

    id: str
    endpoint_id: str
    url: str
    tenant: str
    job_id: str
    type: str
    payload: str
    created_at: float
    tries: int
    next_at: float | None
    delivered_at: float | None
    given_up_at: float | None

    @property
    def status(self) -> DeliveryStatus:
        """Where it stands."""
        if self.delivered_at is not None:
            return DeliveryStatus.DELIVERED
        return DeliveryStatus.PENDING if self.given_up_at is None else DeliveryStatus.FAILED


@dataclass(frozen=True, slots=True)
class Try:
    """One try at a delivery: when it began, how long it took, and the `status` of the answer or why there was none."""

    number: int
    at: float
    seconds: float
    status: int | None
    error: str | None
