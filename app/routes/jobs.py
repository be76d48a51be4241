"""Jobs: submit, look, wait, list, cancel, delete."""

import asyncio
import re
from typing import Annotated

import anyio.to_thread
import structlog
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app import schemas as api
from app import views
from app.context import Context, Shared
from app.errors import RequestError
from app.middleware import CLOSED_REQUEST
from app.openapi import problems, submission_body
from app.ranges import none_match
from app.submission import folder_of, submit
from app.uploads import read_upload
from app.watch import Watch
from scheduler.errors import InvalidParameter, InvalidState, NotFound
from scheduler.ids import is_id
from scheduler.records import Job
from scheduler.states import JobStatus

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
log = structlog.get_logger(__name__)

_KEY = re.compile(r"[\x20-\x7e]{1,255}")


@router.post(
    "",
    status_code=202,
    summary="Submit a job",
    response_model=api.Job,
    responses=problems(400, 403, 413, 415, 422, 429, 503, 507),
    openapi_extra=submission_body(),
)
async def submit_job(
    request: Request,
    context: Shared,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 printable ASCII characters")] = None,
) -> Response:
    """Take an image and a prompt and answer with a queued job: it is on disk when this answers.

    Saying it again with the same `Idempotency-Key` answers with the same job and `Idempotent-Replayed: true`.
    """
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        raise RequestError(
            422,
            "invalid_parameter",
            "Idempotency-Key must be 1 to 255 printable ASCII characters",
            field="Idempotency-Key",
            limit=255,
        )
    upload = await read_upload(request, context.settings.max_image_bytes)
    submitted = await anyio.to_thread.run_sync(submit, context, upload, idempotency_key, limiter=context.image_slots)
    job = submitted.job
    log.info("job submitted", job_id=job.id, model=job.model, created=submitted.created)
    answer = await run_in_threadpool(_answer, context, job, request)
    answer.status_code = 202
    answer.headers["Location"] = f"/v1/jobs/{job.id}"
    if not submitted.created:
        answer.headers["Idempotent-Replayed"] = "true"
    return answer


@router.get(
    "/{job_id}",
    summary="Look at a job, or wait for it to change",
    response_model=api.Job,
    responses={304: {"description": "As it was (If-None-Match)"}, **problems(404, 422, 503)},
)
async def get_job(
    job_id: str,
    request: Request,
    context: Shared,
    wait: Annotated[
        float | None,
        Query(ge=0, allow_inf_nan=False, description="Answer when the job changes, or after these seconds"),
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return a job. With `wait`, the answer comes when the job changes or ends, or when the time is over.

    With `If-None-Match` it comes at once if the job differs from that tag already; 304 says that it does not.
    """
    _check_id(job_id)
    longest = context.settings.max_wait_seconds
    if wait is not None and wait > longest:
        raise InvalidParameter("wait", f"must be from 0 to {longest:g} seconds, not {wait:g}")
    if not wait:
        return await run_in_threadpool(_look, context, job_id, request, if_none_match)
    with context.hub.watch(job_id) as watch:
        job = await run_in_threadpool(context.scheduler.queue.get, job_id)
        known = if_none_match is None or await run_in_threadpool(_is_known, context, job, if_none_match)
        if known and not job.status.ended and not await _wait_for_change(context, watch, job, request, wait):
            return Response(status_code=CLOSED_REQUEST)
    return await run_in_threadpool(_look, context, job_id, request, if_none_match)


@router.get("", summary="List jobs, newest first", response_model=api.Page[api.Job], responses=problems(422, 503))
def list_jobs(
    request: Request,
    context: Shared,
    status: Annotated[JobStatus | None, Query(description="Only jobs in this state")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> Response:
    """Return a page of jobs."""
    if cursor is not None and not is_id(cursor):
        raise InvalidParameter("cursor", "must be the next_cursor of an earlier page")
    queue = context.scheduler.queue
    found = queue.list_jobs(status=status, before_id=cursor, limit=limit + 1)
    jobs, more = found[:limit], len(found) > limit
    page = api.Page[api.Job](
        data=[
            views.job(job, place, _base_url(request)) for job, place in zip(jobs, queue.explain_all(jobs), strict=True)
        ],
        has_more=more,
        next_cursor=jobs[-1].id if more else None,
    )
    return Response(page.model_dump_json(), media_type="application/json")


@router.post("/{job_id}/cancel", summary="Cancel a job", response_model=api.Job, responses=problems(403, 404, 503))
def cancel_job(job_id: str, request: Request, context: Shared) -> Response:
    """Cancel a queued job at once and a running one at its next step. A job that has ended stays as it is."""
    _check_id(job_id)
    return _answer(context, context.scheduler.queue.cancel(job_id), request)


@router.delete(
    "/{job_id}", status_code=204, summary="Delete an ended job and its files", responses=problems(403, 404, 409, 503)
)
def delete_job(job_id: str, context: Shared) -> Response:
    """Delete a job that has ended, with its image and its video."""
    _check_id(job_id)
    queue = context.scheduler.queue
    job = queue.get(job_id)
    if not job.status.ended:
        raise InvalidState(f"job {job_id} is {job.status.value}: cancel it first")
    # Files first: if that fails the job is still there, and the caller can ask again.
    context.scheduler.blobs.delete_prefix(folder_of(job_id))
    queue.delete(job_id)
    log.info("job deleted", job_id=job_id)
    return Response(status_code=204)


async def _wait_for_change(context: Context, watch: Watch, job: Job, request: Request, seconds: float) -> bool:
    """Wait until `job` has changed or ended, the time is over or the server stops; False if the client has left."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    gone = asyncio.create_task(_until_gone(request))
    gone.add_done_callback(lambda _: watch.wake())
    try:
        current: tuple[int, int] | None = job.version
        while current == job.version and (left := deadline - loop.time()) > 0 and not context.hub.released:
            await watch.changed(job.version, left)
            if gone.done():
                gone.result()
                return False
            current = (await run_in_threadpool(context.scheduler.queue.versions, [job.id])).get(job.id)
        return True
    finally:
        gone.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _look(context: Context, job_id: str, request: Request, if_none_match: str | None) -> Response:
    answer = _answer(context, context.scheduler.queue.get(_check_id(job_id)), request)
    if none_match(if_none_match, answer.headers["ETag"]):
        return answer
    return Response(status_code=304, headers={"ETag": answer.headers["ETag"]})


def _is_known(context: Context, job: Job, if_none_match: str) -> bool:
    return not none_match(if_none_match, views.job_etag(job, context.scheduler.queue.explain(job)))


def _answer(context: Context, job: Job, request: Request) -> Response:
    queue = context.scheduler.queue.explain(job)
    if queue is None and job.status is JobStatus.QUEUED:  # claimed since it was read
        job = context.scheduler.queue.get(job.id)
    body = views.job(job, queue, _base_url(request)).model_dump_json()
    return Response(body, media_type="application/json", headers={"ETag": views.job_etag(job, queue)})


def _base_url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _check_id(job_id: str) -> str:
    if not is_id(job_id):
        raise NotFound(f"no job {job_id[:80]}")
    return job_id
