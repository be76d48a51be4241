"""OpenAI's Videos format on the same jobs: what its clients call, under the names and in the shapes that they know."""

import asyncio
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app import schemas as api
from app import videos
from app.access import Caller, Principal, visible
from app.context import Context, Shared
from app.errors import RequestError
from app.openapi import problems
from app.queries import KnownParameters
from app.routes import jobs, media
from app.sources import FileSource, Source, source_of_text
from app.submission import check_key, in_thread, submit
from app.uploads import Body, body_of, checked, typed
from scheduler import catalog
from scheduler.errors import InvalidParameter
from scheduler.ids import is_id
from scheduler.records import Job

router = APIRouter(prefix="/v1/videos", tags=["videos"])
log = structlog.get_logger(__name__)

_IMAGE = videos.IMAGE
_POLL_AFTER = "openai-poll-after-ms"
_DELETE_SECONDS = 5.0  # how long a delete waits for a running job to stop
_AGAIN_SECONDS = 2
_POLLED: dict[int | str, dict[str, Any]] = {
    200: {"headers": {_POLL_AFTER: {"description": "When to look again", "schema": {"type": "integer"}}}}
}


def _body() -> dict[str, Any]:
    """The documentation of the two encodings of a video to make."""
    form = api.VideoFields.model_json_schema()
    form["properties"] = {
        _IMAGE: {"type": "string", "format": "binary"},
        f"{_IMAGE}[image_url]": {"type": "string", "description": "In place of the file: a data URI or an https URL"},
        **form["properties"],
    }
    form["properties"]["metadata"] = {"type": "string", "description": "A JSON object of strings, or `metadata[key]`"}
    schemas = {"multipart/form-data": form, "application/json": _inlined(api.VideoRequest.model_json_schema())}
    return {"requestBody": {"required": True, "content": {kind: {"schema": one} for kind, one in schemas.items()}}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its only definition in its place: a reference would lead out of the document's components."""
    reference = schema.pop("$defs")["ImageReference"]
    image = schema["properties"][_IMAGE]
    image["anyOf"] = [reference if "$ref" in one else one for one in image["anyOf"]]
    return schema


@router.post(
    "",
    summary="Make a video",
    response_model=api.VideoJob,
    responses={**_POLLED, **problems(400, 403, 408, 413, 415, 422, 429, 503, 507)},
    openapi_extra=_body(),
)
async def create_video(
    request: Request,
    context: Shared,
    caller: Caller,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 printable ASCII characters")] = None,
) -> Response:
    """Take an image and a prompt, and any other field of a job, and answer with a queued job as `POST /v1/jobs` does.

    `seconds` times the model's `target_fps` gives `num_frames`; where the model has too few frames for that, the rate
    is lower. Without it the model's defaults hold.
    """
    check_key(idempotency_key)
    async with body_of(request, context.settings, file_field=_IMAGE) as body:
        asked, reference = _read(body)

        def create() -> Response:
            served = catalog.resolve(asked.model, context.scheduler.queue.models())
            fields = videos.job_fields(asked, catalog.architecture(served.architecture))
            with videos.callers_words(videos.names(asked)):
                source = _source(context, caller, body, reference)
                submitted = submit(context, caller, fields, source, idempotency_key)
            log.info("job submitted", job_id=submitted.job.id, model=served.id, created=submitted.created)
            made = _answer(context, submitted.job)
            if not submitted.created:
                made.headers["Idempotent-Replayed"] = "true"
            return made

        return await in_thread(context, caller, create)


@router.get("", summary="List videos", responses=problems(422, 503), dependencies=[KnownParameters])
def list_videos(
    context: Shared,
    caller: Caller,
    after: Annotated[str | None, Query(description="`last_id` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[Literal["asc", "desc"], Query(description="`desc`: newest first")] = "desc",
) -> api.VideoPage:
    """Return a page of jobs, those submitted under /v1/jobs included."""
    if after is not None and not is_id(after):
        raise InvalidParameter("after", "must be the last_id of an earlier page")
    tenant = None if caller.is_admin else caller.tenant
    ascending = order == "asc"
    found = context.scheduler.queue.list_jobs(tenant=tenant, before_id=after, ascending=ascending, limit=limit + 1)
    page = [videos.video(job) for job in found[:limit]]
    return api.VideoPage(
        data=page,
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(found) > limit,
    )


@router.get(
    "/{video_id}",
    summary="Look at a video",
    response_model=api.VideoJob,
    responses={**_POLLED, **problems(404, 503)},
)
def retrieve_video(video_id: str, context: Shared, caller: Caller) -> Response:
    """Return a job as a video."""
    return _answer(context, visible(context, caller, video_id))


@router.head("/{video_id}/content", include_in_schema=False)
@router.get(
    "/{video_id}/content",
    summary="Download a video or its thumbnail",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"video/mp4": {}, "image/jpeg": {}}},
        206: {"description": "The range asked for"},
        304: {"description": "As it was (If-None-Match)"},
        **problems(400, 404, 410, 416, 422, 503),
    },
)
def download_video(
    video_id: str,
    request: Request,
    context: Shared,
    caller: Caller,
    variant: Annotated[Literal["video", "thumbnail", "spritesheet"], Query()] = "video",
) -> Response:
    """Return the finished video, or a still image of it; Range requests are answered. There are no spritesheets."""
    if variant == "spritesheet":
        raise RequestError(
            400, "not_supported", "variant must be video or thumbnail: there are no spritesheets", field="variant"
        )
    send = media.get_video if variant == "video" else media.get_thumbnail
    return send(video_id, request, context, caller)


@router.delete("/{video_id}", summary="Delete a video", responses=problems(403, 404, 409, 503))
async def delete_video(video_id: str, context: Shared, caller: Caller) -> api.DeletedVideo:
    """Delete a job with its files. One that has not ended is cancelled first.

    A running job stops at its next step; 409 with `Retry-After` says that it has not done so yet.
    """
    job = await run_in_threadpool(visible, context, caller, video_id)
    if not job.status.ended:
        await run_in_threadpool(context.scheduler.queue.cancel, video_id)
        job = await _ended(context, video_id)
    if not job.status.ended:
        raise RequestError(
            409,
            "invalid_state",
            f"job {video_id} is being cancelled, and has not stopped yet",
            headers={"Retry-After": str(_AGAIN_SECONDS)},
        )
    await run_in_threadpool(jobs.delete_job, video_id, context, caller)
    return api.DeletedVideo(id=video_id)


@router.post("/{video_id}/remix", include_in_schema=False)
@router.post("/edits", include_in_schema=False)
@router.post("/extensions", include_in_schema=False)
@router.post("/characters", include_in_schema=False)
@router.get("/characters/{character_id}", include_in_schema=False)
async def refuse_operation(request: Request) -> Response:
    """Say what of OpenAI's format there is not here."""
    raise RequestError(
        400, "not_supported", f"{request.url.path} is not supported: this service makes videos from images only"
    )


def _read(body: Body) -> tuple[api.VideoFields, str | None]:
    """The fields as JSON has them, and what stands for the image where it is no file."""
    values: dict[str, Any] = dict(body.fields)
    if body.is_form:
        plain, nested = videos.unbracketed(body.fields)
        values = typed(plain) | nested
    reference = values.pop(_IMAGE, None)
    if isinstance(reference, dict) and reference.keys() == {"image_url"}:
        reference = reference["image_url"]
    if reference is None and body.file is None:
        raise RequestError(
            400, "missing_image", f"{_IMAGE} is required: I2VGen-XL turns an image into a video", field=_IMAGE
        )
    if reference is not None and body.file is not None:
        raise InvalidParameter(_IMAGE, "must be given only once")
    if not isinstance(reference, str | None):
        raise InvalidParameter(_IMAGE, "must be a file, or an object with an image_url and nothing else")
    return checked(lambda: api.VideoFields.model_validate(values)), reference


def _source(context: Context, caller: Principal, body: Body, reference: str | None) -> Source:
    if body.file is not None:
        return FileSource(body.file, context.settings)
    return source_of_text(reference or "", context.settings, caller.tenant)


def _answer(context: Context, job: Job) -> Response:
    """A job as a video, with when to look again; asks the store, so call it in a thread."""
    place = context.scheduler.queue.explain(job)
    after_ms = videos.poll_after_ms(job, place.eta_seconds if place else 0.0)
    body = videos.video(job).model_dump_json()
    return Response(body, media_type="application/json", headers={_POLL_AFTER: str(after_ms)})


async def _ended(context: Context, job_id: str) -> Job:
    """Wait until a job has ended, for some seconds at most, and return it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _DELETE_SECONDS
    with context.hub.watch(job_id) as watch:
        while True:
            job = await run_in_threadpool(context.scheduler.queue.get, job_id)
            left = deadline - loop.time()
            if job.status.ended or left <= 0 or context.hub.released:
                return job
            await watch.changed(job.version, left)
