"""Jobs: list, cancel, delete, and repeat one that did not succeed."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Query, Request, Response

from app import schemas as api
from app import views
from app.access import Caller, Principal, visible
from app.answers import answer, base_url
from app.context import Shared
from app.errors import RequestError
from app.openapi import problems
from app.queries import KnownParameters
from app.retrying import retry
from app.submission import check_key, folder_of, in_thread, respond
from app.times import parse_time
from scheduler.errors import InvalidParameter, InvalidState
from scheduler.ids import is_id
from scheduler.search import LOOKED_AT, TEXT_MAX_CHARS
from scheduler.states import JobStatus

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
log = structlog.get_logger(__name__)


@router.get(
    "",
    summary="List jobs, newest first",
    response_model=api.Page[api.Job],
    responses=problems(403, 422, 503),
    dependencies=[KnownParameters],
)
def list_jobs(
    request: Request,
    context: Shared,
    caller: Caller,
    status: Annotated[list[JobStatus] | None, Query(description="Only jobs in this state; may be repeated")] = None,
    model: Annotated[
        str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="Only jobs of this model")
    ] = None,
    q: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=TEXT_MAX_CHARS,
            pattern=r"^[^\x00]*$",
            description="Only jobs whose prompt has each of these words, in small letters or capitals, or whose id "
            f"begins so; a page looks at {LOOKED_AT} jobs at most",
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        Query(max_length=200, pattern=r"^[^\x00]*$", description="Only jobs that have been on this GPU"),
    ] = None,
    created_after: Annotated[str | None, Query(description="Only jobs made after this time (RFC 3339)")] = None,
    created_before: Annotated[str | None, Query(description="Only jobs made before this time (RFC 3339)")] = None,
    tenant: Annotated[
        str | None,
        Query(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Only jobs of this tenant: the operator's to ask for"),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> Response:
    """Return a page of the caller's jobs; the operator's is of all tenants' unless it names one.

    With `q` a page may be short, or empty, and yet have a `next_cursor`: from there on there is more to look at.
    """
    if cursor is not None and not is_id(cursor):
        raise InvalidParameter("cursor", "must be the next_cursor of an earlier page")
    queue = context.scheduler.queue
    found = queue.find_jobs(
        q,
        tenant=_tenant(caller, tenant),
        statuses=status or (),
        model=model,
        gpu_id=gpu,
        created_after=None if created_after is None else parse_time("created_after", created_after),
        created_before=None if created_before is None else parse_time("created_before", created_before),
        before_id=cursor,
        limit=limit,
    )
    jobs = found.jobs
    base, prices = base_url(request), context.settings.prices
    page = api.Page[api.Job](
        data=[views.job(job, place, base, prices) for job, place in zip(jobs, queue.explain_all(jobs), strict=True)],
        has_more=found.next_id is not None,
        next_cursor=found.next_id,
    )
    return Response(page.model_dump_json(), media_type="application/json")


@router.post("/{job_id}/cancel", summary="Cancel a job", response_model=api.Job, responses=problems(403, 404, 503))
def cancel_job(job_id: str, request: Request, context: Shared, caller: Caller) -> Response:
    """Cancel a queued job at once and a running one at its next step. A job that has ended stays as it is."""
    visible(context, caller, job_id)
    return answer(context, context.scheduler.queue.cancel(job_id), request)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    summary="Repeat a job that failed or was cancelled",
    response_model=api.Job,
    responses=problems(403, 404, 409, 410, 422, 429, 503, 507),
)
async def retry_job(
    job_id: str,
    request: Request,
    context: Shared,
    caller: Caller,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 printable ASCII characters")] = None,
) -> Response:
    """Submit a job again: the same image, prompt, parameters and seed, priority, metadata and webhook, as a new job.

    `retry_of` names the old one, which stays as it is. The new one has no deadline.
    """
    check_key(idempotency_key)

    def work() -> Response:
        return respond(request, context, retry(context, caller, visible(context, caller, job_id), idempotency_key))

    with context.submissions.place(caller):
        return await in_thread(context, caller, work)


@router.delete(
    "/{job_id}", status_code=204, summary="Delete an ended job and its files", responses=problems(403, 404, 409, 503)
)
def delete_job(job_id: str, context: Shared, caller: Caller) -> Response:
    """Delete a job that has ended, with its image and its video."""
    queue, job = context.scheduler.queue, visible(context, caller, job_id)
    if not job.status.ended:
        raise InvalidState(f"job {job_id} is {job.status.value}: cancel it first")
    # Files first: if that fails the job is still there, and the caller can ask again.
    context.scheduler.blobs.delete_prefix(folder_of(job_id))
    queue.delete(job_id)
    log.info("job deleted", job_id=job_id)
    return Response(status_code=204)


def _tenant(caller: Principal, asked: str | None) -> str | None:
    """The tenant whose jobs are listed; None: everybody's."""
    if caller.is_admin:
        return asked
    if asked not in (None, caller.tenant):
        raise RequestError(403, "insufficient_scope", "only the operator may list another tenant's jobs")
    return caller.tenant
