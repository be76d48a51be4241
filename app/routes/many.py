"""Many jobs at once: cancel them, or repeat those that did not succeed."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from app import bulk
from app import schemas as api
from app.access import Caller, visible
from app.context import Shared
from app.openapi import problems
from app.retrying import retry
from app.submission import check_key, in_thread
from scheduler.records import Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post(
    "/cancel",
    summary="Cancel several jobs",
    response_model=api.Page[api.JobOutcome],
    responses=problems(400, 403, 408, 422, 503),
)
def cancel_jobs(asked: api.JobsRequest, request: Request, context: Shared, caller: Caller) -> Response:
    """Cancel each job as if it were named alone, and tell for each, in the order asked, what became of it.

    What is refused for one keeps none of the others: `problem` has the status and code that its own call would have.
    """

    def cancel(job_id: str) -> Job:
        return context.scheduler.queue.cancel(visible(context, caller, job_id).id)

    return bulk.respond(request, context, bulk.each(asked.ids, cancel))


@router.post(
    "/retry",
    summary="Repeat several jobs that failed or were cancelled",
    response_model=api.Page[api.JobOutcome],
    responses=problems(400, 403, 408, 422, 503, 507),
)
async def retry_jobs(
    asked: api.JobsRequest,
    request: Request,
    context: Shared,
    caller: Caller,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 printable ASCII characters")] = None,
) -> Response:
    """Submit each job again as if it were named alone, and tell for each, in the order asked, the new job.

    Each counts as a submit of its own: limits and rates that end in the middle refuse the rest, in their `problem`. The
    same `Idempotency-Key` gets the same new jobs, and makes those that were refused before.
    """
    check_key(idempotency_key)
    first = asked.ids[0]

    def again(job_id: str) -> Job:
        if job_id != first:  # which the request itself was counted for
            bulk.take_submit(context, caller)
        key = None if idempotency_key is None else _key_of(idempotency_key, job_id)
        return retry(context, caller, visible(context, caller, job_id), key).job

    def work() -> Response:
        return bulk.respond(request, context, bulk.each(asked.ids, again))

    with context.submissions.place(caller):
        return await in_thread(context, caller, work)


def _key_of(idempotency_key: str, job_id: str) -> str:
    """A key for one of the jobs that a key was sent for."""
    return hashlib.sha256(f"{idempotency_key}\n{job_id}".encode()).hexdigest()
