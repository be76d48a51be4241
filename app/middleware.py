"""What surrounds every request: an id and safe headers, a guard against other sites, and a limit on the body.

Plain ASGI, in this order from the outside: `RequestEnvelope`, `Gate` (in `gate`), `SiteGuard`, `BodyLimit`.
"""

import asyncio
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.dashboard import pages
from app.dashboard.session import by_session
from app.errors import RequestError
from app.headers import header, headers
from app.problems import problem, refusal
from app.traffic import Traffic

REQUEST_ID = "X-Request-Id"
CLOSED_REQUEST = 499  # nginx's number for a client that left; it is only ever logged and counted
PIECE_BYTES, PIECE_SECONDS = 64 * 1024, 10.0  # the least that a body must bring, and in which time
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = REQUEST_ID.lower().encode()
DEFAULT_HEADERS = (  # as they go out: this is on the way of every answer
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)

log = structlog.get_logger(__name__)
_debugging = logging.getLogger(__name__)


class RequestEnvelope:
    """Gives each request an id, each answer its headers and one log line, and each unforeseen error a plain 500.

    `traffic` counts them all.
    """

    def __init__(self, app: ASGIApp, *, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = header(scope, _REQUEST_ID)
        request_id = asked if asked is not None and _SAFE_ID.fullmatch(asked) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.monotonic()
        status = 0
        answered: float | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], time.monotonic()
                given = {name for name, _ in message["headers"]}
                missing = [header for header in DEFAULT_HEADERS if header[0] not in given]
                told = [*message["headers"], (_REQUEST_ID, request_id.encode()), *missing]
                message = {**message, "headers": told}
            await send(message)

        outside = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            try:
                await self._app(scope, receive, send_with_headers)
            except ClientDisconnect:  # in the middle of its upload; nobody is there to answer
                status = CLOSED_REQUEST
            except Exception:
                log.exception("request failed", method=scope["method"], path=scope["path"])
                if status:  # too late for another answer: the server must cut the connection
                    raise
                detail = f"the server made an error; its log has it under request id {request_id}"
                await problem(scope, 500, "internal_error", detail)(scope, receive, send_with_headers)
            _log_request(scope, status, time.monotonic() - began)
        finally:
            # Without a status it was given up at shutdown.
            self._traffic.count(scope, status or CLOSED_REQUEST, (answered or time.monotonic()) - began)
            structlog.contextvars.reset_contextvars(**outside)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    # Polls come by the thousand: only what changes something, or fails, is worth a line.
    quiet = scope["method"] in _SAFE_METHODS and status < 500
    if quiet and not _debugging.isEnabledFor(logging.DEBUG):  # asked first: to write nothing takes its time too
        return
    write = log.debug if quiet else log.info
    named = scope.get("path_params", {})
    job_id = named.get("job_id") or named.get("video_id")
    about = {"job_id": job_id} if job_id else {}
    write("request", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 3), **about)


class SiteGuard:
    """Keeps other web sites out of a server without keys.

    A browser on this machine can be made to call it: by a form or script of another site (refused by Sec-Fetch-Site
    and Origin), or by a name that an attacker points at 127.0.0.1 (refused by Host, unless the network is trusted).
    With keys only a session's cookie is sent along by a browser itself: there, and to sign in, the site is checked.
    """

    def __init__(self, app: ASGIApp, *, any_host: bool, has_keys: Callable[[], bool]) -> None:
        self._app = app
        self._any_host = any_host
        self._has_keys = has_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            status, code, detail = refusal
            await problem(scope, status, code, detail)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        hosts = list(headers(scope, b"host"))
        name = _host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None:  # whose URLs would be in the answer?
            return 400, "invalid_host", "the Host header is not a host name or address"
        if self._has_keys():
            if not (by_session(scope) or pages.is_open(scope["path"])):
                return None
        elif not (self._any_host or _is_loopback(name)):
            return 421, "host_not_allowed", "this server answers to localhost, 127.0.0.1 and [::1] only"
        if scope["method"] not in _SAFE_METHODS and _is_cross_site(scope, hosts[0]):
            return 403, "cross_site", "requests from other web sites may not change anything here"
        return None


@lru_cache(maxsize=256)
def _host_name(host: str) -> str | None:
    match = _HOST.fullmatch(host)
    return match[1] if match else None


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_cross_site(scope: Scope, host: str) -> bool:
    site = header(scope, b"sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = header(scope, b"origin")
    if origin is None:  # not a browser
        return False
    try:
        return urlsplit(origin).netloc.lower() != host.lower()
    except ValueError:
        return True


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest body, and the error that refuses a larger one."""

    max_bytes: int
    error: Callable[[], RequestError]


class BodyLimit:
    """Counts the bytes of each body as they arrive, so that nothing above the limit is ever kept or spooled.

    A body that takes longer than `upload_seconds` is refused too, and one that is waited for longer than
    `PIECE_SECONDS` for each `PIECE_BYTES` of it.
    """

    def __init__(self, app: ASGIApp, *, limit: Callable[[Scope], Limit]) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; a body that grows above its limit, or is late, raises inside whatever reads it."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope)
        declared = header(scope, b"content-length") or "0"
        if declared.isdigit() and int(declared[:20]) > limit.max_bytes:
            await refusal(scope, limit.error())(scope, receive, send)
            return
        seconds = scope["app"].state.context.settings.upload_seconds
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        piece_seconds, piece_bytes = PIECE_SECONDS, 0  # left to wait for the next piece, and what has come of it
        left = limit.max_bytes
        complete = answering = False

        async def counted() -> Message:
            nonlocal left, complete, piece_seconds, piece_bytes
            if complete:  # what is waited for now is that the client leaves
                return await receive()
            began = clock()
            patience = began + piece_seconds
            try:
                async with asyncio.timeout_at(min(until, patience)):
                    message = await receive()
            except TimeoutError:
                if answering:
                    return {"type": "http.disconnect"}
                raise (_late(seconds) if until <= patience else _slow()) from None
            complete = not message.get("more_body", False)
            size = len(message.get("body", b""))
            left -= size
            piece_bytes += size
            piece_seconds -= clock() - began  # what the server itself takes between two messages is not the caller's
            if piece_bytes >= PIECE_BYTES:
                piece_seconds, piece_bytes = PIECE_SECONDS, 0
            if left >= 0:
                return message
            if answering:  # too late to refuse it: whoever sends on is treated as gone
                return {"type": "http.disconnect"}
            raise limit.error()

        async def watched(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        await self._app(scope, counted, watched)


def _has_body(scope: Scope) -> bool:
    """Whether a body may come: HTTP/1.1 has none where neither of two headers says so (RFC 9112, 6.3)."""
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _late(seconds: float) -> RequestError:
    return RequestError(
        408,
        "upload_timeout",
        f"the body took longer than {seconds:g} seconds to arrive",
        limit=seconds,
        headers={"Connection": "close"},
    )


def _slow() -> RequestError:
    return RequestError(
        408,
        "upload_timeout",
        f"the body must bring at least {PIECE_BYTES} bytes in each {PIECE_SECONDS:g} seconds",
        limit=PIECE_BYTES,
        headers={"Connection": "close"},
    )
