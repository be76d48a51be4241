"""Reading a submission: a multipart form or JSON in, its fields and the image's file out."""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from typing import Any, BinaryIO, TypeVar, cast

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Scope

from app.errors import RequestError
from app.forms import invalid, read_form
from app.middleware import Limit
from app.settings import FrontEndSettings

BODY_PATHS: Mapping[str, str] = {"/v1/jobs": "image", "/v1/videos": "input_reference"}  # what the image is called
# Room beside the image: 4,000 characters of prompt and of negative prompt, 16 KiB of metadata, as escaped JSON, twice.
_FIELDS_BYTES = 128 * 1024
_SMALL_BODY_BYTES = 256 * 1024  # every other request
_MAX_MARKS = 50_000  # of JSON: twice what all texts of a submission could have
_COUNTED_BYTES = 2**20
_MAX_TOLD = 1_000
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")  # what is out of range is told by what knows the range
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_METADATA = TypeAdapter(dict[str, str])
_EVENTS = TypeAdapter(list[str])
_INTEGERS = frozenset({"width", "height", "num_frames", "num_inference_steps", "target_fps", "seed"})
_NUMBERS = frozenset({"guidance_scale", "priority", "result_ttl_seconds"})
_BOOLEANS = frozenset({"allow_int8"})
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_Checked = TypeVar("_Checked")


@dataclass(frozen=True, slots=True)
class Body:
    """What was sent, as it was sent: the texts of a form in their order, or the members of a JSON object.

    `file` is a form's file, open at its start, not empty and no larger than an image may be.
    """

    is_form: bool
    fields: list[tuple[str, Any]]
    file: BinaryIO | None


def body_limit(max_image_bytes: int) -> Callable[[Scope], Limit]:
    """Return the function that tells the largest body of a request; base64 makes an image a third larger."""
    other = Limit(_SMALL_BODY_BYTES, _body_too_large)

    def limit(scope: Scope) -> Limit:
        field = BODY_PATHS.get(scope["path"])
        if field is None:
            return other
        is_json = any(name == b"content-type" and b"json" in value.lower() for name, value in scope["headers"])
        image_bytes = max_image_bytes * 4 // 3 if is_json else max_image_bytes
        return Limit(image_bytes + _FIELDS_BYTES, lambda: image_too_large(max_image_bytes, field))

    return limit


@asynccontextmanager
async def body_of(request: Request, settings: FrontEndSettings, *, file_field: str = "image") -> AsyncIterator[Body]:
    """Read a submission's body, unless it is refused before; its file is gone after the block.

    Raises `RequestError`, `RequestValidationError`, and what `Intake.check` does.
    """
    kind, charset = media_type(request)
    if charset not in ("", "utf-8"):
        raise RequestError(415, "unsupported_media_type", "text must be in UTF-8, not in another charset")
    if kind not in ("multipart/form-data", "application/json"):
        raise RequestError(
            415, "unsupported_media_type", "Content-Type must be multipart/form-data or application/json"
        )
    context, caller = request.app.state.context, request.scope["state"]["principal"]
    with context.submissions.place(caller):
        await context.intake.check(caller.tenant)
        if kind == "application/json":
            yield Body(False, await run_in_threadpool(_members, await request.body()), None)
            return
        form = await read_form(request, file_field=file_field)
        if form.file is None:
            yield Body(True, form.texts, None)
            return
        with form.file as file:
            check_size(file.seek(0, 2), settings, file_field)
            file.seek(0)
            yield Body(True, form.texts, cast("BinaryIO", file))


def check_size(size: int, settings: FrontEndSettings, field: str = "image") -> None:
    """Raise `RequestError` for an image of so many bytes, if it is none or too large."""
    if size == 0:
        raise RequestError(415, "not_an_image", f"{field} must not be empty", field=field)
    if size > settings.max_image_bytes:
        raise image_too_large(settings.max_image_bytes, field)


def media_type(request: Request) -> tuple[str, str]:
    """Return the request's media type and its charset, in lower case; both may be empty."""
    header = request.headers.get("content-type", "")
    if not header:
        return "", ""
    message = Message()
    message["content-type"] = header
    return message.get_content_type(), message.get_content_charset("")


def checked(validate: Callable[[], _Checked]) -> _Checked:
    """Call a pydantic validation and turn its error into FastAPI's."""
    try:
        return validate()
    except ValidationError as error:
        count = error.error_count()
        if count > _MAX_TOLD:  # to tell them one by one would take longer than to find them
            raise RequestValidationError(
                [{"type": "too_many", "loc": ("body",), "msg": f"has {count} wrong or unknown values"}]
            ) from None
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None


def typed(texts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return a form's texts by name, each as what its field is; raises `RequestValidationError` where it is not."""
    values: dict[str, Any] = {}
    for name, text in texts:
        if name in values:
            raise invalid(name, "repeated", "must be given only once")
        values[name] = _typed(name, text)
    return values


def _typed(name: str, text: str) -> Any:
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
        return _from_text(_METADATA, name, text, "must be a JSON object of strings")
    if name == "webhook_events":
        return _from_text(_EVENTS, name, text, "must be a JSON list of strings")
    return text


def _from_text(adapter: TypeAdapter[Any], name: str, text: str, wanted: str) -> Any:
    try:
        return adapter.validate_json(text, strict=True)
    except ValidationError:
        raise invalid(name, "json", wanted) from None


def _check_marks(body: bytes) -> None:
    """Raise `RequestError` for JSON of very many values, each of which would take far more memory than its bytes."""
    found = 0
    for start in range(0, len(body), _COUNTED_BYTES):
        found += sum(body.count(mark, start, start + _COUNTED_BYTES) for mark in (b"{", b"[", b","))
        if found > _MAX_MARKS:
            raise RequestError(
                400,
                "malformed_request",
                f"the body must have at most {_MAX_MARKS} opening braces, opening brackets and commas together",
                limit=_MAX_MARKS,
            )


def _members(body: bytes) -> list[tuple[str, Any]]:
    _check_marks(body)
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise RequestError(400, "malformed_request", "the body is not valid JSON") from None
    if not isinstance(found, dict):
        raise RequestValidationError([{"type": "dict_type", "loc": ("body",), "msg": "must be an object"}])
    return list(found.items())


def image_too_large(max_image_bytes: int, field: str = "image") -> RequestError:
    """Return the error of an image with more bytes."""
    return RequestError(
        413,
        "image_too_large",
        f"{field} must be at most {max_image_bytes} bytes",
        field=field,
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
