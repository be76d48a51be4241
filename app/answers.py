"""A job as an answer: what every route that returns one sends."""

from fastapi import Request, Response

from app import views
from app.context import Context
from app.headers import header
from scheduler.records import Job
from scheduler.states import JobStatus


def answer(context: Context, job: Job, request: Request) -> Response:
    """Return a job as it stands now, with its ETag; asks the store, so call it in a thread."""
    queue = context.scheduler.queue.explain(job)
    if queue is None and job.status is JobStatus.QUEUED:  # claimed since it was read
        job = context.scheduler.queue.get(job.id)
    body = views.job(job, queue, base_url(request), context.settings.prices).model_dump_json()
    return Response(body, media_type="application/json", headers={"ETag": views.job_etag(job, queue)})


def base_url(request: Request) -> str:
    """Return what the URLs in an answer begin with, without a slash at its end."""
    context: Context = request.app.state.context
    if context.settings.public_url is not None:
        return context.settings.public_url.rstrip("/")
    # What `request.base_url` says, for a service at the root of its host; that takes as long as the rest of a poll.
    return f"{request.scope['scheme']}://{header(request.scope, b'host') or ''}"
