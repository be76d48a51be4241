"""Alerts on behalf of this front end: what it looks at, and what the operator's webhook is told."""

import platform
from ipaddress import ip_network
from typing import Any

import structlog
from sqlalchemy import Row

from app import schemas as api
from app.disks import disks
from app.settings import FrontEndSettings
from app.views import time_text
from scheduler.alarm import Alarm, Alert
from scheduler.alerts import Disk, Rule
from scheduler.errors import SchedulerError
from scheduler.fan_out import Operator
from scheduler.service import Scheduler

# The operator's own endpoint may be anywhere: no stranger has named it.
ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))

log = structlog.get_logger(__name__)


def alarm(scheduler: Scheduler, settings: FrontEndSettings) -> Alarm:
    """Return what looks for alerts, with the thresholds of the settings."""
    return Alarm(
        scheduler.database,
        scheduler.fleet,
        scheduler.samples,
        settings.alert_thresholds,
        host=platform.node(),
        disks=lambda: _disks(scheduler, settings),
        clear_seconds=settings.alert_clear_seconds,
        retention_seconds=settings.policy().retention_seconds,
    )


def operator(settings: FrontEndSettings) -> Operator | None:
    """Return where alerts are told, if the settings say so."""
    url = settings.alert_webhook_url
    return None if url is None else Operator(url, payload)


def payload(event: Row[Any]) -> str:
    """Return what is sent of an alert's event: an `AlertPayload` as JSON."""
    of = dict(event.data)
    rule = Rule(of["rule"])
    told = Alert(
        id=event.subject,
        rule=rule,
        **{name: of[name] for name in Alert.__dataclass_fields__ if name not in ("id", "rule")},
    )
    return api.AlertPayload(type=event.type, timestamp=time_text(event.at), data=view(told)).model_dump_json()


def view(alert: Alert) -> api.Alert:
    """Return an alert as the API shows it."""
    return api.Alert(
        id=alert.id,
        rule=alert.rule,
        severity=alert.severity,
        status="firing" if alert.resolved_at is None else "resolved",
        kind=alert.kind,
        subject=alert.subject,
        message=alert.message,
        value=alert.value,
        threshold=alert.threshold,
        since=time_text(alert.since),
        fired_at=time_text(alert.fired_at),
        resolved_at=None if alert.resolved_at is None else time_text(alert.resolved_at),
    )


def _disks(scheduler: Scheduler, settings: FrontEndSettings) -> list[Disk]:
    """Return the disks that this front end writes to; none where they cannot be looked at: other alerts go on."""
    try:
        return list(disks(settings, scheduler.blobs))
    except (SchedulerError, OSError) as error:
        log.warning("alerts without those of disks", error=str(error))
        return []
