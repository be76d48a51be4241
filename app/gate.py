"""The gate: nobody gets further who may not, or comes too often."""

import asyncio
import math
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.dashboard import pages
from app.dashboard.session import session_of, to_sign_in
from app.door import PUBLIC, Door, Visitor, check_scope
from app.errors import RequestError
from app.headers import header
from app.problems import of_scheduler, refusal
from scheduler.errors import SchedulerError
from scheduler.keys import Scope as Permission
from scheduler.ratelimits import Decision, RateLimits

_WINDOW_SECONDS = 60


class Gate:
    """Tells every request's caller, and refuses what the caller may not do, or not now.

    Each request but those to the few public paths passes here, so that a route cannot forget to ask. A tenant with rate
    limits is told of them in every answer (draft-ietf-httpapi-ratelimit-headers-10).
    """

    def __init__(self, app: ASGIApp, *, door: Door, ratelimits: RateLimits) -> None:
        self._app = app
        self._door = door
        self._ratelimits = ratelimits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or _is_open(scope):
            await self._app(scope, receive, send)
            return
        told: Mapping[str, str] = {}
        try:
            visitor = await self._door.admit(header(scope, b"authorization"), session_of(scope))
            permission = check_scope(visitor.principal, scope["method"], scope["path"])
            if visitor.limits.requests_per_minute is not None or visitor.limits.submits_per_minute is not None:
                told = await self._within_limits(visitor, permission)
        except RequestError as error:
            asks_in_vain = error.status_code == HTTPStatus.UNAUTHORIZED and pages.wanted(scope)
            await (to_sign_in(scope) if asks_in_vain else refusal(scope, error))(scope, receive, send)
            return
        except SchedulerError as error:
            await of_scheduler(scope, error)(scope, receive, send)
            return
        scope["state"]["principal"] = visitor.principal
        await self._app(scope, receive, _telling(send, told) if told else send)

    async def _within_limits(self, visitor: Visitor, permission: Permission) -> Mapping[str, str]:
        """Count the request; returns the headers that tell what is left. Raises `RequestError` 429."""
        wanted = {"request": visitor.limits.requests_per_minute}
        if permission is Permission.SUBMIT:
            wanted["submit"] = visitor.limits.submits_per_minute
        policies, states = [], []
        refused: tuple[str, int, Decision] | None = None
        for name, per_minute in wanted.items():
            if per_minute is None:
                continue
            bucket = bucket_of(name, visitor.principal.tenant)
            decision = await asyncio.to_thread(self._ratelimits.take, bucket, per_minute)
            policies.append(f'"{name}";q={per_minute};w={_WINDOW_SECONDS}')
            states.append(f'"{name}";r={decision.remaining};t={_restored(decision)}')
            if not decision.allowed:
                refused = (name, per_minute, decision)
                break
        headers = {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)} if policies else {}
        if refused is None:
            return headers
        raise too_often(*refused, headers)


def bucket_of(name: str, tenant: str) -> str:
    """Return the bucket in which a tenant's requests or submits are counted."""
    return f"{name}:{tenant}"


def too_often(
    name: str, per_minute: int, decision: Decision, headers: Mapping[str, str] = MappingProxyType({})
) -> RequestError:
    """Return the refusal of what comes too often: of a `request` or a `submit`."""
    after = _restored(decision)
    return RequestError(
        429,
        "rate_limited",
        f"at most {per_minute} {name}s a minute; the next may come in {after} s",
        limit=per_minute,
        headers={**headers, "Retry-After": str(after)},
    )


def _is_open(scope: Scope) -> bool:
    """Whether anybody may ask; at the root there is a page, which not everybody may see, and an answer to machines."""
    path = scope["path"]
    return pages.is_open(path) or (path in PUBLIC and not (path == "/" and pages.wanted(scope)))


def _restored(decision: Decision) -> int:
    """In how many seconds there is more: all again, or one where none is left; then at least one second."""
    if decision.remaining:
        return math.ceil(decision.reset_seconds)
    return max(1, math.ceil(decision.retry_after_seconds))


def _telling(send: Send, headers: Mapping[str, str]) -> Send:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *raw]}
        await send(message)

    return telling
