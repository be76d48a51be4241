"""Input images, videos, thumbnails and previews: streamed from the blob store, in ranges where asked."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from app.access import Caller, Principal, visible
from app.context import Context, Shared
from app.errors import RequestError
from app.images import png_of_ppm
from app.openapi import problems
from app.ranges import ByteRange, Unsatisfiable, if_range, none_match, requested
from scheduler.errors import NotFound
from scheduler.records import Result

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

# Lets a browser show the file on a page of its own, and nothing else.
_MEDIA_POLICY = (
    "default-src 'none'; media-src 'self'; img-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"
)
_TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_RAW = ".ppm"  # which no browser shows
_Read = Callable[[int, int], Iterator[bytes]]  # of a file: from an offset, so many bytes
_PARTS: dict[int | str, dict[str, Any]] = {
    206: {"description": "The range asked for"},
    304: {"description": "As it was (If-None-Match)"},
}


@router.head("/image", include_in_schema=False)
@router.get(
    "/image",
    summary="Download the input image",
    response_class=StreamingResponse,
    responses={200: {"content": {"image/jpeg": {}, "image/png": {}}}, **_PARTS, **problems(404, 410, 416, 503)},
)
def get_image(job_id: str, request: Request, context: Shared, caller: Caller) -> Response:
    """Return the image that the job was submitted with, as a worker sees it: upright, opaque, without metadata.

    What was a JPEG is one; all others are PNG.
    """
    job = visible(context, caller, job_id)
    return _send(context, request, job.image_key, tag=f"{job_id}-image", name=job_id)


@router.head("/video", include_in_schema=False)
@router.get(
    "/video",
    summary="Download the video",
    response_class=StreamingResponse,
    responses={200: {"content": {"video/mp4": {}}}, **_PARTS, **problems(404, 410, 416, 503)},
)
def get_video(job_id: str, request: Request, context: Shared, caller: Caller) -> Response:
    """Return the finished video; Range requests are answered."""
    result = _result(context, caller, job_id)
    return _send(context, request, result.video_key, tag=result.sha256, name=job_id)


@router.head("/thumbnail", include_in_schema=False)
@router.get(
    "/thumbnail",
    summary="Download the thumbnail",
    response_class=StreamingResponse,
    responses={200: {"content": {"image/jpeg": {}}}, **_PARTS, **problems(404, 410, 416, 503)},
)
def get_thumbnail(job_id: str, request: Request, context: Shared, caller: Caller) -> Response:
    """Return a still image of the finished video."""
    result = _result(context, caller, job_id)
    # It is made from the video, once: the video's digest names it as well as its own would.
    return _send(context, request, result.thumbnail_key, tag=f"{result.sha256}-thumbnail", name=job_id)


@router.head("/preview", include_in_schema=False)
@router.get(
    "/preview",
    summary="Download the preview",
    response_class=StreamingResponse,
    responses={200: {"content": {"image/webp": {}}}, **_PARTS, **problems(404, 410, 416, 503)},
)
def get_preview(job_id: str, request: Request, context: Shared, caller: Caller) -> Response:
    """Return a small animated WebP of the finished video."""
    result = _result(context, caller, job_id)
    if result.preview_key is None:
        raise RequestError(404, "no_preview", f"job {job_id} was made without a preview")
    return _send(context, request, result.preview_key, tag=f"{result.sha256}-preview", name=job_id)


def _result(context: Context, caller: Principal, job_id: str) -> Result:
    job = visible(context, caller, job_id)
    if job.result is not None:
        if context.scheduler.queue.has_expired(job.result):
            raise RequestError(410, "result_expired", f"the video of job {job_id} has expired")
        return job.result
    if job.status.ended:
        raise RequestError(404, "no_video", f"job {job_id} is {job.status.value} and has no video")
    raise RequestError(404, "video_not_ready", f"job {job_id} is {job.status.value}: its video is not ready")


def _send(context: Context, request: Request, key: str, *, tag: str, name: str) -> Response:
    blobs = context.scheduler.blobs
    try:
        size = blobs.size(key)
    except NotFound:
        raise RequestError(410, "result_expired", f"the files of job {name} are gone") from None
    etag, is_raw = f'"{tag}"', key.endswith(_RAW)
    headers = _headers(etag, name, ".png" if is_raw else key[key.rindex(".") :])
    if not none_match(request.headers.get("If-None-Match"), etag):
        return Response(status_code=304, headers=headers)
    read: _Read = partial(blobs.read, key)
    if is_raw:
        data = png_of_ppm(b"".join(read(0, size)))
        size, read = len(data), partial(_cut, data)
    try:
        part = requested(_range_header(request, etag), size)
    except Unsatisfiable:
        raise RequestError(
            416,
            "range_not_satisfiable",
            f"Range must begin before the end of the file, {size} bytes",
            limit=size,
            headers={"Content-Range": f"bytes */{size}"},
        ) from None
    if part is None:
        return _stream(request, read, ByteRange(0, size), HTTPStatus.OK, headers)
    headers["Content-Range"] = part.content_range(size)
    return _stream(request, read, part, HTTPStatus.PARTIAL_CONTENT, headers)


def _headers(etag: str, name: str, suffix: str) -> dict[str, str]:
    return {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'inline; filename="{name}{suffix}"',
        "Content-Security-Policy": _MEDIA_POLICY,
        "Content-Type": _TYPES[suffix],
    }


def _range_header(request: Request, etag: str) -> str | None:
    # RFC 9110 defines Range for GET alone.
    if request.method != "GET" or not if_range(request.headers.get("If-Range"), etag):
        return None
    return request.headers.get("Range")


def _cut(data: bytes, start: int, length: int) -> Iterator[bytes]:
    yield data[start : start + length]


def _stream(request: Request, read: _Read, part: ByteRange, status: HTTPStatus, headers: Mapping[str, str]) -> Response:
    complete = {**headers, "Content-Length": str(part.length)}
    if request.method == "HEAD":
        return Response(status_code=status, headers=complete)
    return StreamingResponse(read(part.start, part.length), status, complete)
