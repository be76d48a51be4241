"""What operators are told of, and the secret that it is signed with."""

import structlog
from fastapi import APIRouter

from app import alarms
from app import schemas as api
from app.access import Caller
from app.context import Shared
from app.openapi import problems
from scheduler.tenants import OPERATOR

router = APIRouter(prefix="/v1/admin/alerts", tags=["admin"])
log = structlog.get_logger(__name__)


@router.get("", summary="List the alerts", responses=problems(503))
def list_alerts(context: Shared) -> api.Page[api.Alert]:
    """Return the alerts that fire, then those that have ended in the last day; the newest of each first."""
    return api.Page[api.Alert](data=[alarms.view(one) for one in context.scheduler.alerts.told()])


@router.get("/secret", summary="Show the secret that signs alerts", responses=problems(503))
def get_alert_secret(context: Shared) -> api.WebhookSecret:
    """Return the secret with which the webhook of the setting `alert_webhook_url` is signed."""
    return _secret(context)


@router.post("/secret/rotate", summary="Replace the secret that signs alerts", responses=problems(403, 503))
def rotate_alert_secret(context: Shared, caller: Caller) -> api.WebhookSecret:
    """Make a new secret. For a day all that is sent is signed with the old one too."""
    context.scheduler.webhooks.rotate_secret(OPERATOR, caller.actor)
    log.info("alert secret rotated")
    return _secret(context)


def _secret(context: Shared) -> api.WebhookSecret:
    in_force = context.scheduler.webhooks.secrets(OPERATOR)
    return api.WebhookSecret(secret=in_force[0], in_force=list(in_force))
