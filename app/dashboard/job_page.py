"""A job's own page: what it makes, how far it is, why it waits, and everything that has happened to it."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from app import views
from app.access import Caller, Principal, visible
from app.answers import base_url
from app.context import Context, Shared
from app.dashboard import comparing, job_values, repeating, telling
from app.dashboard.rendering import render
from scheduler.records import Attempt, Job
from scheduler.states import JobStatus, Stage

_REFRESH_SECONDS = 1.0
_ENDED_REFRESH_SECONDS = 30.0  # its video may expire, its webhook be delivered, or somebody delete it
_MOST_EVENTS = 200
_MOST_ATTEMPTS = 50
_MOST_DELIVERIES = 20
_TITLE_CHARS = 60

router = APIRouter(include_in_schema=False)


@router.get("/jobs/{job_id}")
def get_job_page(job_id: str, request: Request, context: Shared, caller: Caller) -> Response:
    """Return the page of a job that the caller may see; raises `NotFound` for another."""
    queue = context.scheduler.queue
    job = visible(context, caller, job_id)
    place = queue.explain(job)
    if place is None and job.status is JobStatus.QUEUED:  # claimed since it was read
        job = visible(context, caller, job_id)
    attempts = queue.attempts(job.id)
    title = job.prompt if len(job.prompt) <= _TITLE_CHARS else f"{job.prompt[:_TITLE_CHARS]}…"
    return render(
        request,
        caller,
        "job.html",
        title=title,
        refresh_seconds=_ENDED_REFRESH_SECONDS if job.status.ended else _REFRESH_SECONDS,
        job=job,
        place=place,
        has_video=job.result is not None and not queue.has_expired(job.result),
        attempts=attempts[-_MOST_ATTEMPTS:],
        earlier_attempts=max(0, len(attempts) - _MOST_ATTEMPTS),
        events=_events(context, caller, job),
        deliveries=_deliveries(context, caller, job),
        cost=views.job_cost(job, context.settings.prices),
        advice=telling.advice(job.error.code) if job.error else None,
        command=repeating.curl(job, base_url(request), with_key=context.door.closed),
        values=job_values,
        stages=list(Stage),
        now=time.time(),
        **_measured(attempts),
    )


def _measured(attempts: list[Attempt]) -> dict[str, Any]:
    """Prediction and measurement of the last attempt that was measured; None where none was."""
    last = next((one for one in reversed(attempts) if one.measured is not None), None)
    if last is None or last.measured is None:
        return {"last": None, "pairs": [], "parts": []}
    return {"last": last, "pairs": comparing.pairs(last, last.measured), "parts": comparing.parts(last.measured)}


def _events(context: Context, caller: Principal, job: Job) -> list[tuple[float, str]]:
    """When what happened to the job, the latest of it, oldest first."""
    found = context.scheduler.events.latest(job.id, _MOST_EVENTS)
    return [(event.at, telling.words(event, for_operator=caller.is_admin)) for event in reversed(found)]


def _deliveries(context: Context, caller: Principal, job: Job) -> list[Any]:
    if job.webhook_url is None:
        return []
    tenant = None if caller.is_admin else caller.tenant
    return list(context.scheduler.webhooks.deliveries(tenant, job_id=job.id, limit=_MOST_DELIVERIES))
