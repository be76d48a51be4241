"""Looking at a job, waiting for it to change, and following it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.routing import APIRoute

from app import schemas as api
from app.access import Caller, Principal
from app.answers import base_url
from app.context import Context, Shared
from app.errors import RequestError
from app.looks import Look, Version
from app.middleware import CLOSED_REQUEST
from app.openapi import problems
from app.ranges import none_match
from app.streams import KEEP_ALIVE, KEEP_ALIVE_SECONDS, RETRY_MILLISECONDS, EventStream, event, version_of
from app.watch import Watch
from scheduler.errors import InvalidParameter, NotFound
from scheduler.ids import is_id

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class _PlainPoll(APIRoute):
    """A route whose requests without a query skip FastAPI's work on parameters, which takes longer than the answer."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Return what handles a request."""
        with_parameters = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.scope["query_string"]:
                return await with_parameters(request)
            context, caller = request.app.state.context, request.scope["state"]["principal"]
            look = await _look(context, caller, request.path_params["job_id"], base_url(request))
            return _answer(look, request.headers.get("if-none-match"))

        return handle


async def get_job(
    job_id: str,
    request: Request,
    context: Shared,
    caller: Caller,
    wait: Annotated[
        float | None,
        Query(ge=0, allow_inf_nan=False, description="Answer when the job changes, or after these seconds"),
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return a job. With `wait`, the answer comes when the job changes or ends, or when the time is over.

    With `If-None-Match` it comes at once if the job differs from that tag already; 304 says that it does not.
    """
    longest = context.settings.max_wait_seconds
    if wait is not None and wait > longest:
        raise InvalidParameter("wait", f"must be from 0 to {longest:g} seconds, not {wait:g}")
    base = base_url(request)
    look = await _look(context, caller, job_id, base)
    known = if_none_match is None or not none_match(if_none_match, look.etag)
    if not wait or not known or look.job.status.ended:
        return _answer(look, if_none_match)
    with context.hub.watch(job_id) as watch:
        if not await _wait_for_change(context, watch, look.version, request, wait):
            return Response(status_code=CLOSED_REQUEST)
    return _answer(await _look(context, caller, job_id, base), if_none_match)


router.add_api_route(
    "/{job_id}",
    get_job,
    methods=["GET"],
    summary="Look at a job, or wait for it to change",
    response_model=api.Job,
    responses={304: {"description": "As it was (If-None-Match)"}, **problems(404, 422, 503)},
    route_class_override=_PlainPoll,
)

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The events", "content": {"text/event-stream": {}}},
    204: {"description": "The job has ended, and the reader knows (Last-Event-ID)"},
}


@router.get(
    "/{job_id}/events",
    summary="Follow a job",
    status_code=200,
    response_class=EventStream,
    responses={**_STREAM, **problems(404, 503)},
)
async def follow_job(
    job_id: str,
    request: Request,
    context: Shared,
    caller: Caller,
    last_event_id: Annotated[str | None, Header(description="The `id` of the last event that was received")] = None,
) -> Response:
    """Send the job now and after each change, as server-sent events, until it has ended.

    `status` carries the whole job, `progress` its stage and step. A reader that was cut off goes on with
    `Last-Event-ID`; it hears of the job as it is then, not of what has passed.
    """
    look = await _look(context, caller, job_id, base_url(request))
    last = version_of(last_event_id)
    if last == look.version and look.job.status.ended:
        return Response(status_code=204)
    events = _events(context, job_id, base_url(request), look, last)
    return EventStream(_while_admitted(context, request.headers.get("authorization"), events))


async def _events(context: Context, job_id: str, base: str, look: Look, last: Version | None) -> AsyncIterator[bytes]:
    yield b"retry: %d\n\n" % RETRY_MILLISECONDS
    with context.hub.watch(job_id) as watch:
        while True:
            if last is None or last != look.version:
                yield event(look, last)
                last = look.version
            if look.job.status.ended or context.hub.released:
                return
            # The first look was made before the watch began.
            if await context.looks.version(job_id) == last:
                await watch.changed(last, KEEP_ALIVE_SECONDS)
            try:
                newer = await context.looks.get(job_id, base)
            except NotFound:  # deleted
                return
            if newer.version == last and not context.hub.released:
                yield KEEP_ALIVE
            look = newer


async def _while_admitted(
    context: Context, authorization: str | None, events: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """Pass the events on for as long as the caller's key opens the door."""
    async for one in events:
        try:
            await context.door.admit(authorization)
        except RequestError:  # revoked, or expired; a new request is told
            return
        yield one


async def _look(context: Context, caller: Principal, job_id: str, base: str) -> Look:
    """The job as it is now; raises `NotFound`, in the same words, where it is not there or not the caller's."""
    if not is_id(job_id):
        raise NotFound(f"no job {job_id[:80]}")
    look = await context.looks.get(job_id, base)
    if not caller.sees(look.job):
        raise NotFound(f"no job {job_id}")
    return look


def _answer(look: Look, if_none_match: str | None) -> Response:
    if none_match(if_none_match, look.etag):
        return Response(look.body, media_type="application/json", headers={"ETag": look.etag})
    return Response(status_code=304, headers={"ETag": look.etag})


async def _wait_for_change(context: Context, watch: Watch, version: Version, request: Request, seconds: float) -> bool:
    """Wait until the job has changed, the time is over or the server stops; False if the client has left."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    gone = asyncio.create_task(_until_gone(request))
    gone.add_done_callback(lambda _: watch.wake())
    try:
        while (left := deadline - loop.time()) > 0 and not context.hub.released:
            if await context.looks.version(watch.job_id) != version:
                break
            await watch.changed(version, left)
            if gone.done():
                gone.result()
                return False
        return True
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
