"""One exchange with the server: errors become types, and what may be repeated is repeated."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar, cast

import httpx

from app.client.effects import Send, Sleep, Steps
from app.client.errors import AccessDenied, ApiError, ServerUnreachable
from app.client.retry import ONCE, Retry, wait_before_retry

T = TypeVar("T")
_BODY_EXCERPT_CHARS = 200
_NO_KEY = "the server wants an API key: set REELQ_API_KEY"


@dataclass(frozen=True, slots=True)
class Server:
    """What the steps of a call know of the server and of the client; `timeout` and `clock` (monotonic) in seconds."""

    url: str
    has_key: bool
    timeout: float
    retry: Retry
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request whose answer is a T as JSON, or nothing for None; `options` are httpx's.

    `again` says whether it may be repeated: whether saying it twice does nothing twice.
    """

    method: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    again: bool = True


def perform(server: Server, call: Call[T]) -> Steps[T]:
    """Make a call; raises `ApiError` or `ServerUnreachable`."""
    retry = server.retry if call.again else ONCE
    answer = yield from exchange(server, Send(call.method, call.path, call.options), retry)
    return cast("T", json_of(answer) if answer.content else None)


def exchange(server: Server, request: Send, retry: Retry) -> Steps[httpx.Response]:
    """Send one request and return its answer, 2xx or 304; raises `ApiError` or `ServerUnreachable`."""

    def once() -> Steps[httpx.Response]:
        answer: httpx.Response = yield request
        raise_for_problem(server, answer)
        return answer

    return (yield from attempt(server, once, retry))


def attempt(server: Server, once: Callable[[], Steps[T]], retry: Retry) -> Steps[T]:
    """Do `once` until it succeeds or `retry` is used up; the last error is raised."""
    delays, deadline = retry.delays(), server.clock() + retry.seconds
    while True:
        try:
            return (yield from once())
        except (httpx.RequestError, ApiError) as error:
            delay = next(delays, None)
            pause = None if delay is None else wait_before_retry(error, delay)
            left = deadline - server.clock()
            if pause is None or left <= 0 or (pause > left and not retry.to_the_end):
                raise _typed(server, error) from error
        yield Sleep(min(pause, left))


def raise_for_problem(server: Server, answer: httpx.Response) -> None:
    """Raise `ApiError` unless `answer` is a success or 304."""
    if answer.is_success or answer.status_code == httpx.codes.NOT_MODIFIED:
        return
    status = answer.status_code
    try:
        document = answer.json()
    except ValueError:
        document = None
    problem = document if isinstance(document, dict) else {}
    excerpt = " ".join(answer.text[:_BODY_EXCERPT_CHARS].split()) if not problem else ""
    detail = problem.get("detail") or problem.get("title") or excerpt or answer.reason_phrase
    if status == httpx.codes.UNAUTHORIZED and not server.has_key:
        detail = _NO_KEY
    denied = status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}
    raise (AccessDenied if denied else ApiError)(
        status,
        str(problem.get("code") or f"http_{status}"),
        str(detail),
        problem=problem or None,
        retry_after_seconds=_retry_after(answer.headers.get("Retry-After")),
    )


def json_of(answer: httpx.Response) -> Any:
    """Return the JSON of `answer`; raises `ApiError` where it is none: another server answers there."""
    try:
        return answer.json()
    except ValueError as error:
        detail = f"{answer.request.url} did not answer with JSON; is it a reelq server?"
        raise ApiError(answer.status_code, "not_json", detail) from error


def _typed(server: Server, error: Exception) -> Exception:
    if not isinstance(error, httpx.RequestError):
        return error
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        reason = "no answer in time"
    return ServerUnreachable(server.url, reason)


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds a number or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
