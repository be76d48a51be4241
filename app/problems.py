"""Errors as HTTP answers: one table from domain errors to statuses, one shape (RFC 9457) for all of them."""

import errno
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from app.dashboard import pages
from app.dashboard.rendering import error_page
from app.errors import RequestError
from scheduler.errors import (
    IdempotencyMismatch,
    InvalidParameter,
    InvalidState,
    NoModel,
    NotFound,
    QueueFull,
    Refused,
    SchedulerError,
    StorageFull,
    StoreError,
    StoreUnreachable,
    TenantQueueFull,
    Unschedulable,
)

log = structlog.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"
_LATER_SECONDS = 5  # when to ask again about something that somebody must first start or mend


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    code: str
    retry_after_seconds: int | None = None


# The first class that matches decides.
_ANSWERS: tuple[tuple[type[SchedulerError], _Answer], ...] = (
    (NotFound, _Answer(404, "not_found")),
    (InvalidParameter, _Answer(422, "invalid_parameter")),
    (Unschedulable, _Answer(422, "unschedulable")),
    (IdempotencyMismatch, _Answer(422, "idempotency_key_reused")),
    (InvalidState, _Answer(409, "invalid_state")),
    (Refused, _Answer(422, "refused")),
    (TenantQueueFull, _Answer(429, "tenant_queue_full", 1)),
    (QueueFull, _Answer(429, "queue_full", 1)),
    (NoModel, _Answer(503, "no_model", _LATER_SECONDS)),
    (StorageFull, _Answer(507, "storage_full")),
    (StoreUnreachable, _Answer(503, "store_unreachable", _LATER_SECONDS)),
)
MAX_ERRORS = 20  # that one answer tells of
_OPENAI_PATHS = ("/v1/videos", "/v1/models")  # what OpenAI's clients call: they read an `error`
_CODES = {400: "malformed_request", 404: "not_found", 405: "method_not_allowed"}
_NUMBER_ERRORS = {
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
}
_WORDS = {"missing": "is required", "extra_forbidden": "is not a known field", "json_invalid": "is not valid JSON"}


def problem(
    scope: Scope,
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    limit: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem answer, to a browser that wants a page as one; `errors` are pairs of `field` and `message`."""
    if pages.wanted(scope):
        return error_page(scope, status, HTTPStatus(status).phrase, detail, dict(headers or {}))
    body: dict[str, Any] = {
        "type": f"urn:reelq:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": quote(scope["path"], errors="replace"),
        "code": code,
        "request_id": scope.get("state", {}).get("request_id"),
    }
    if errors:
        body["errors"] = list(errors)
    if limit is not None:
        body["limit"] = limit
    if scope["path"].startswith(_OPENAI_PATHS):
        body["error"] = {
            "message": detail,
            "type": "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error",
            "param": errors[0]["field"] if errors else None,
            "code": code,
        }
    # ASCII only: what a client sent, lone surrogates included, can always be written back.
    return Response(json.dumps(body, ensure_ascii=True), status, headers, media_type=PROBLEM_JSON)


def refusal(scope: Scope, error: RequestError) -> Response:
    """Return the problem answer of a refused request."""
    return problem(
        scope,
        error.status_code,
        error.code,
        error.detail,
        errors=[{"field": error.field, "message": error.detail}] if error.field else (),
        limit=error.limit,
        headers=error.headers,
    )


def install(app: FastAPI) -> None:
    """Make every error of `app`'s routes a problem answer; unforeseen ones are the middleware's."""
    app.add_exception_handler(SchedulerError, _scheduler_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OSError, _os_error)


def field_of(location: Sequence[object]) -> str:
    """Return the field an error's location names: `("query", "limit")` is `limit`."""
    inner = location[1:] if location and location[0] in ("body", "query", "path", "header") else location
    if location and location[0] == "query":  # one that may be repeated is a list, and its caller knows of no index
        inner = inner[:1]
    return ".".join(str(part) for part in inner) or "body"


def of_scheduler(scope: Scope, error: SchedulerError) -> Response:
    """Return the problem answer of what the scheduler refuses; raises `error` itself where that is none to tell."""
    return refusal(scope, as_refusal(error))


def as_refusal(error: SchedulerError) -> RequestError:
    """Return what a request is refused with that the scheduler refuses; raises `error` where that is none to tell."""
    answer = next((answer for kind, answer in _ANSWERS if isinstance(error, kind)), None)
    if answer is None:
        raise error
    after = answer.retry_after_seconds
    if isinstance(error, QueueFull):
        after = max(1, math.ceil(error.retry_after_seconds))
    return RequestError(
        answer.status,
        answer.code,
        told(error),
        field=error.field if isinstance(error, InvalidParameter) else None,
        limit=error.limit if isinstance(error, QueueFull) else None,
        headers=None if after is None else {"Retry-After": str(after)},
    )


def told(error: SchedulerError) -> str:
    """Return what callers are told of an error. What the store's driver says, hosts and users in it, is for the log."""
    if not isinstance(error, StoreError):
        return str(error)
    log.warning("the store cannot be used", problem=str(error))
    return "the database or the blob store cannot be used just now"


async def _scheduler_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, SchedulerError):
        raise error
    return of_scheduler(request.scope, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()[:MAX_ERRORS]
    if any(one["type"] == "json_invalid" for one in found):
        return problem(request.scope, 400, "malformed_request", "the body is not valid JSON")
    errors = [_one(one) for one in found]
    detail = "; ".join(one["message"] for one in errors[:5])
    return problem(request.scope, 422, "invalid_parameter", detail, errors=errors)


def _one(error: Mapping[str, Any]) -> dict[str, str]:
    field = field_of(error["loc"])[:100]
    words = _WORDS.get(error["type"]) or str(error["msg"]).replace("Input should be", "must be", 1)
    if error["type"] in _NUMBER_ERRORS and "input" in error:
        words = f"must be {_NUMBER_ERRORS[error['type']]}, not {_shown(error['input'])}"
    elif error["type"] == "extra_forbidden" and error["loc"][0] == "query":
        words = "is not a known parameter"
    return {"field": field, "message": f"{field} {words.removeprefix('Value error, ')}"}


def _shown(value: object) -> str:
    """What was sent where a number was wanted, if it is short; else what kind of thing."""
    if isinstance(value, str):
        return repr(value[:40])
    return repr(value)[:40] if isinstance(value, int | float | None) else f"a {type(value).__name__}"


async def _http_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestError):
        return refusal(request.scope, error)
    if not isinstance(error, HTTPException):
        raise error
    status = error.status_code
    code = _CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_"))
    detail = f"no route {request.method} {request.url.path}" if status == HTTPStatus.NOT_FOUND else str(error.detail)
    allowed = _allowed(request) if status == HTTPStatus.METHOD_NOT_ALLOWED else ""
    return problem(request.scope, status, code, detail, headers={"Allow": allowed} if allowed else error.headers)


def _allowed(request: Request) -> str:
    """The methods of a path, as far as it is one of `app.state.routes`: starlette names those of one route only.

    Of `/v1/jobs/cancel` they are its own, though it could be a job's path.
    """
    routes = [route for route in request.app.state.routes if route.matches(request.scope)[0] is Match.PARTIAL]
    routes = [route for route in routes if route.path == request.scope["path"]] or routes
    return ", ".join(sorted({method for route in routes for method in route.methods}))


async def _os_error(request: Request, error: Exception) -> Response:
    # Spooling an upload and re-encoding an image use the disk for temporary files.
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return problem(request.scope, 507, "storage_full", "the disk for temporary files has no room left")
    raise error
