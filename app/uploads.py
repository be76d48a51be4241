"""Reading a submission: a multipart form or JSON in, checked fields and the image's bytes out."""

import base64
import binascii
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Scope

from app.errors import RequestError
from app.middleware import Limit
from app.schemas import JobFields, JobRequest

SUBMIT_PATH = "/v1/jobs"
# Room beside the image: 4,000 characters of prompt and of negative prompt, 16 KiB of metadata, as escaped JSON, twice.
_FIELDS_BYTES = 128 * 1024
_SMALL_BODY_BYTES = 256 * 1024  # every other request
_MAX_FIELDS = 32
_TAIL_BYTES = 512  # a boundary has 70 characters at most; what follows the last one is of no matter
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_DATA_URI = re.compile(r"data:[^,;]*(?:;[^,;]*)*;base64,", re.IGNORECASE)
_METADATA = TypeAdapter(dict[str, str])
_INTEGERS = frozenset({"width", "height", "num_frames", "num_inference_steps", "target_fps", "seed"})
_NUMBERS = frozenset({"guidance_scale", "priority"})
_BOOLEANS = frozenset({"allow_int8"})
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Upload:
    """What was sent, as it was sent: only forms and ranges that no model has are checked yet."""

    fields: JobFields
    image: bytes


def body_limit(max_image_bytes: int) -> Callable[[Scope], Limit]:
    """Return the function that tells the largest body of a request; base64 makes an image a third larger."""
    submission = Limit(max_image_bytes * 4 // 3 + _FIELDS_BYTES, lambda: _image_too_large(max_image_bytes))
    form = Limit(max_image_bytes + _FIELDS_BYTES, submission.error)
    other = Limit(_SMALL_BODY_BYTES, _body_too_large)

    def limit(scope: Scope) -> Limit:
        if scope["path"] != SUBMIT_PATH:
            return other
        is_json = any(name == b"content-type" and b"json" in value.lower() for name, value in scope["headers"])
        return submission if is_json else form

    return limit


async def read_upload(request: Request, max_image_bytes: int) -> Upload:
    """Read a submission; raises `RequestError` or `RequestValidationError`, and keeps nothing then."""
    kind, charset = media_type(request)
    if charset not in ("", "utf-8"):
        raise RequestError(415, "unsupported_media_type", "text must be in UTF-8, not in another charset")
    if kind == "multipart/form-data":
        upload = await _from_form(request, max_image_bytes)
    elif kind == "application/json":
        body = await request.body()
        upload = await run_in_threadpool(_from_json, body)
    else:
        raise RequestError(
            415, "unsupported_media_type", "Content-Type must be multipart/form-data or application/json"
        )
    if not upload.image:
        raise RequestError(415, "not_an_image", "image must not be empty", field="image")
    if len(upload.image) > max_image_bytes:
        raise _image_too_large(max_image_bytes)
    return upload


def media_type(request: Request) -> tuple[str, str]:
    """Return the request's media type and its charset, in lower case; both may be empty."""
    header = request.headers.get("content-type", "")
    if not header:
        return "", ""
    message = Message()
    message["content-type"] = header
    return message.get_content_type(), message.get_content_charset("")


def invalid(field: str, kind: str, message: str) -> RequestValidationError:
    """Return a validation error like pydantic's own, for one field."""
    return RequestValidationError([{"type": kind, "loc": ("body", field), "msg": message}])


def checked(validate: Callable[[], JobFields]) -> Any:
    """Call a pydantic validation and turn its error into FastAPI's, without what was sent."""
    try:
        return validate()
    except ValidationError as error:
        raise RequestValidationError(
            error.errors(include_url=False, include_context=False, include_input=False)
        ) from None


async def _from_form(request: Request, max_image_bytes: int) -> Upload:
    # The body limit already bounds every part, so that a long prompt is refused by name and not by part.
    most = max_image_bytes + _FIELDS_BYTES
    watched = _TailRequest(request.scope, request.receive)
    async with watched.form(max_files=_MAX_FIELDS, max_fields=_MAX_FIELDS, max_part_size=most) as form:
        if not watched.ended_with_boundary():  # the parser is content with what has come
            raise RequestError(400, "incomplete_body", "the multipart body ends before its closing boundary")
        values = _form_values(form)
        fields: JobFields = checked(lambda: JobFields.model_validate(values))
        file = form.get("image")
        if file is None:
            raise invalid("image", "missing", "")
        if not isinstance(file, UploadFile):
            raise invalid("image", "file", "must be a file part, with a filename")
        return Upload(fields, await file.read())


class _TailRequest(Request):
    """A request that remembers how its body ended."""

    _tail = b""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes."""
        async for chunk in super().stream():
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
            yield chunk

    def ended_with_boundary(self) -> bool:
        """Whether the last part was closed, as RFC 2046 asks."""
        message = Message()
        message["content-type"] = self.headers["content-type"]
        return f"--{message.get_boundary('')}--".encode() in self._tail


def _form_values(form: FormData) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in values or (name == "image" and len(form.getlist(name)) > 1):
            raise invalid(name, "repeated", "must be given only once")
        if name == "image":
            continue
        if isinstance(value, UploadFile):
            raise invalid(name, "text", "must be text, not a file")
        values[name] = _form_value(name, value)
    return values


def _form_value(name: str, text: str) -> Any:
    if name in _INTEGERS:
        if not _INTEGER.fullmatch(text):
            raise invalid(name, "int_parsing", f"must be an integer, not {text[:40]!r}")
        return int(text)
    if name in _NUMBERS:
        if not _NUMBER.fullmatch(text):
            raise invalid(name, "float_parsing", f"must be a finite number, not {text[:40]!r}")
        return float(text)
    if name in _BOOLEANS:
        if text not in _TRUTH:
            raise invalid(name, "bool_parsing", f"must be true or false, not {text[:40]!r}")
        return _TRUTH[text]
    if name == "metadata":
        return _metadata(text)
    return text


def _metadata(text: str) -> dict[str, str]:
    try:
        return _METADATA.validate_json(text, strict=True)
    except ValidationError:
        raise invalid("metadata", "json_object", "must be a JSON object of strings") from None


def _from_json(body: bytes) -> Upload:
    asked: JobRequest = checked(lambda: JobRequest.model_validate_json(body))
    fields = JobFields.model_validate(asked.model_dump(exclude={"image"}, exclude_unset=True))
    return Upload(fields, _from_data_uri(asked.image))


def _from_data_uri(text: str) -> bytes:
    head = _DATA_URI.match(text[:200])
    if head is None:
        raise RequestError(
            422, "unsupported_image_source", "image must be a data URI (data:image/png;base64,…)", field="image"
        )
    try:
        return base64.b64decode(text[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(422, "corrupt_image", "image must be valid base64", field="image") from None


def _image_too_large(max_image_bytes: int) -> RequestError:
    return RequestError(
        413,
        "image_too_large",
        f"image must be at most {max_image_bytes} bytes",
        field="image",
        limit=max_image_bytes,
        headers={"Connection": "close"},
    )


def _body_too_large() -> RequestError:
    return RequestError(
        413,
        "body_too_large",
        f"the body must be at most {_SMALL_BODY_BYTES} bytes",
        limit=_SMALL_BODY_BYTES,
        headers={"Connection": "close"},
    )
