"""What surrounds every request: an id and safe headers, a guard against other sites, and a limit on the body.

Plain ASGI, in this order from the outside: `RequestEnvelope`, `SiteGuard`, `BodyLimit`.
"""

import ipaddress
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import RequestError
from app.problems import problem, refusal

REQUEST_ID = "X-Request-Id"
CLOSED_REQUEST = 499  # nginx's number for a client that left; it is only ever logged
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

log = structlog.get_logger(__name__)


class RequestEnvelope:
    """Gives each request an id, each answer its headers and one log line, and each unforeseen error a plain 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = asked if _SAFE_ID.fullmatch(asked) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.monotonic()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                for name, value in _DEFAULT_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
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


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    # Polls come by the thousand: only what changes something, or fails, is worth a line.
    quiet = scope["method"] in _SAFE_METHODS and status < 500
    write = log.debug if quiet else log.info
    write("request", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 3))


class SiteGuard:
    """Keeps other web sites out of a server without keys.

    A browser on this machine can be made to call it: by a form or script of another site (refused by Sec-Fetch-Site
    and Origin), or by a name that an attacker points at 127.0.0.1 (refused by Host, unless the network is trusted).
    """

    def __init__(self, app: ASGIApp, *, any_host: bool) -> None:
        self._app = app
        self._any_host = any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            status, code, detail = refusal
            await problem(scope, status, code, detail)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        match = _HOST.fullmatch(host)
        if match is None:
            return 400, "invalid_host", "the Host header is not a host name or address"
        if not (self._any_host or _is_loopback(match[1])):
            return 421, "host_not_allowed", "this server answers to localhost, 127.0.0.1 and [::1] only"
        if scope["method"] not in _SAFE_METHODS and _is_cross_site(headers, host):
            return 403, "cross_site", "requests from other web sites may not change anything here"
        return None


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_cross_site(headers: Headers, host: str) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
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
    """Counts the bytes of each body as they arrive, so that nothing above the limit is ever kept or spooled."""

    def __init__(self, app: ASGIApp, *, limit: Callable[[Scope], Limit]) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; a body that grows above the limit raises inside whatever reads it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope)
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared[:20]) > limit.max_bytes:
            await refusal(scope, limit.error())(scope, receive, send)
            return
        left = limit.max_bytes
        answering = False

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
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
