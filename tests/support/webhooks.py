"""Jobs that tell an endpoint of themselves, and the deliveries that come of it."""

import json
from typing import Any

from scheduler.deliveries import Due
from scheduler.fan_out import Told
from scheduler.service import Scheduler
from scheduler.webhooks import DEFAULT_EVENTS
from tests.support.fleet import new_job

URL = "https://hooks.example/a"
LEASE = 60.0  # seconds


def text(told: Told) -> str:
    """What the tests' endpoints are told: all there is."""
    error = told.error and told.error.code
    return json.dumps([told.type, told.job_id, told.status, told.model, dict(told.metadata), error, told.has_video])


def submit(scheduler: Scheduler, url: str | None = URL, events: Any = DEFAULT_EVENTS, **changes: Any) -> str:
    """Return the id of a job that tells `url` of `events`."""
    return scheduler.queue.submit(new_job(webhook_url=url, webhook_events=events, **changes)).job.id


def cancelled(scheduler: Scheduler, url: str | None = URL, **changes: Any) -> str:
    """Return the id of a job that was submitted and cancelled."""
    job_id = submit(scheduler, url, **changes)
    scheduler.queue.cancel(job_id)
    return job_id


def take(scheduler: Scheduler) -> list[Due]:
    """Return what is due for `LEASE` seconds, with what has happened until now."""
    scheduler.fan_out.tell(text)
    return scheduler.webhooks.claim_due(100, LEASE)


def take_one(scheduler: Scheduler) -> Due:
    """Return the one delivery that is due."""
    (due,) = take(scheduler)
    return due
