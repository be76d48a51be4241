"""Webhooks: where they go, what has become of each delivery, and the secret that signs them."""

import json
from collections.abc import Sequence
from typing import Annotated

import structlog
from fastapi import APIRouter, Query

from app import schemas as api
from app.access import Caller, Principal
from app.context import Context, Shared
from app.openapi import problems
from app.queries import KnownParameters
from app.views import time_text
from scheduler.deliveries import Delivery, DeliveryStatus, Endpoint
from scheduler.errors import InvalidParameter, NotFound
from scheduler.ids import is_id

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
log = structlog.get_logger(__name__)

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(description="The `next_cursor` of the page before")]


@router.get(
    "", summary="List the endpoints that webhooks go to", responses=problems(422, 503), dependencies=[KnownParameters]
)
def list_webhooks(
    context: Shared, caller: Caller, limit: Limit = 100, cursor: Cursor = None
) -> api.Page[api.WebhookEndpoint]:
    """Return a page of the URLs that jobs have named, newest first; one is there once something is told to it."""
    found = context.scheduler.webhooks.endpoints(_tenant(caller), _id(cursor), limit + 1)
    return api.Page[api.WebhookEndpoint](
        data=[_endpoint(one) for one in found[:limit]],
        has_more=len(found) > limit,
        next_cursor=found[limit - 1].id if len(found) > limit else None,
    )


@router.post("/{endpoint_id}/enable", summary="Enable an endpoint again", responses=problems(403, 404, 503))
def enable_webhook(endpoint_id: str, context: Shared, caller: Caller) -> api.WebhookEndpoint:
    """Send to a disabled endpoint again, all that waits for it too; while it is enabled, this changes nothing.

    An endpoint is disabled when it answers 410, or when nothing could be delivered to it for five days.
    """
    _known("webhook endpoint", endpoint_id)
    enabled = context.scheduler.webhooks.enable(endpoint_id, _tenant(caller), caller.actor)
    log.info("webhook endpoint enabled", endpoint_id=endpoint_id)
    return _endpoint(enabled)


@router.get(
    "/deliveries", summary="List deliveries, newest first", responses=problems(422, 503), dependencies=[KnownParameters]
)
def list_webhook_deliveries(
    context: Shared,
    caller: Caller,
    job: Annotated[str | None, Query(description="Only deliveries about this job")] = None,
    status: Annotated[
        DeliveryStatus | None, Query(description="`pending` are also those that wait for a disabled endpoint")
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> api.Page[api.WebhookDelivery]:
    """Return a page of deliveries; they are kept as long as jobs are."""
    if job is not None and not is_id(job):
        raise InvalidParameter("job", "must be the id of a job")
    found = context.scheduler.webhooks.deliveries(
        _tenant(caller), job_id=job, status=status, before_id=_id(cursor), limit=limit + 1
    )
    return api.Page[api.WebhookDelivery](
        data=[_delivery(one) for one in found[:limit]],
        has_more=len(found) > limit,
        next_cursor=found[limit - 1].id if len(found) > limit else None,
    )


@router.get("/deliveries/{delivery_id}", summary="Look at a delivery", responses=problems(404, 503))
def get_webhook_delivery(delivery_id: str, context: Shared, caller: Caller) -> api.WebhookDeliveryDetail:
    """Return a delivery with what is sent, and what came of each try."""
    return _detail(context, delivery_id, caller)


@router.post("/deliveries/{delivery_id}/redeliver", summary="Deliver once more", responses=problems(403, 404, 409, 503))
def redeliver_webhook(delivery_id: str, context: Shared, caller: Caller) -> api.WebhookDeliveryDetail:
    """Try a delivery at once, whatever has become of it; the receiver gets the same `webhook-id` and the same bytes.

    If that fails, it is tried again as far as its tries are not used up. 409 while its endpoint is disabled.
    """
    _known("delivery", delivery_id)
    context.scheduler.webhooks.redeliver(delivery_id, _tenant(caller), caller.actor)
    log.info("webhook to be delivered again", delivery_id=delivery_id)
    return _detail(context, delivery_id, caller)


@router.get("/secret", summary="Show the secret that signs webhooks", responses=problems(503))
def get_webhook_secret(context: Shared, caller: Caller) -> api.WebhookSecret:
    """Return the secret of the caller's tenant. Receivers verify with it that what they get comes from here."""
    return _secret(context.scheduler.webhooks.secrets(caller.tenant))


@router.post("/secret/rotate", summary="Replace the secret that signs webhooks", responses=problems(403, 503))
def rotate_webhook_secret(context: Shared, caller: Caller) -> api.WebhookSecret:
    """Make a new secret for the caller's tenant. For a day all that is sent is signed with the old one too."""
    webhooks = context.scheduler.webhooks
    webhooks.rotate_secret(caller.tenant, caller.actor)
    log.info("webhook secret rotated", tenant=caller.tenant)
    return _secret(webhooks.secrets(caller.tenant))


def _tenant(caller: Principal) -> str | None:
    return None if caller.is_admin else caller.tenant


def _id(cursor: str | None) -> str | None:
    if cursor is not None and not is_id(cursor):
        raise InvalidParameter("cursor", "must be the next_cursor of an earlier page")
    return cursor


def _known(kind: str, identifier: str) -> None:
    if not is_id(identifier):
        raise NotFound(f"no {kind} {identifier[:80]}")


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else time_text(seconds)


def _endpoint(one: Endpoint) -> api.WebhookEndpoint:
    return api.WebhookEndpoint(
        id=one.id,
        tenant=one.tenant,
        url=one.url,
        state="enabled" if one.disabled_at is None else "disabled",
        reason=one.disabled_reason,
        failing_since=_time(one.failing_since),
        disabled_at=_time(one.disabled_at),
        created_at=time_text(one.created_at),
    )


def _delivery(one: Delivery) -> api.WebhookDelivery:
    return api.WebhookDelivery(
        id=one.id,
        endpoint=one.endpoint_id,
        url=one.url,
        job=one.job_id,
        type=one.type,
        status=one.status,
        held=one.status is DeliveryStatus.PENDING and one.next_at is None,
        tries=one.tries,
        created_at=time_text(one.created_at),
        next_try_at=_time(one.next_at),
        delivered_at=_time(one.delivered_at),
        given_up_at=_time(one.given_up_at),
    )


def _detail(context: Context, delivery_id: str, caller: Principal) -> api.WebhookDeliveryDetail:
    _known("delivery", delivery_id)
    delivery, tries = context.scheduler.webhooks.delivery(delivery_id, _tenant(caller))
    told = [
        api.WebhookTry(number=one.number, at=time_text(one.at), seconds=one.seconds, status=one.status, error=one.error)
        for one in tries
    ]
    return api.WebhookDeliveryDetail(**_delivery(delivery).model_dump(), payload=json.loads(delivery.payload), log=told)


def _secret(in_force: Sequence[str]) -> api.WebhookSecret:
    return api.WebhookSecret(secret=in_force[0], in_force=list(in_force))
