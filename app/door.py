"""Who calls, and what the caller may do.

The service is open until the first key is made, and then listens on loopback only. From then on every call needs a key,
for good: that the last key is revoked or expires opens nothing.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.dashboard import pages
from app.errors import RequestError
from scheduler.errors import NotFound
from scheduler.keys import Key, Keys, Scope
from scheduler.limits import TenantLimits
from scheduler.records import Job
from scheduler.sessions import Sessions
from scheduler.tenants import DEFAULT, Tenants

PUBLIC = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
REMEMBER_SECONDS = 1.0  # how long a revoked key, or a limit that was changed, may still have effect
_MOST = 4096  # callers that are remembered
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_ADMIN = "/v1/admin/"
_METRICS = "/metrics"
_ADMIN_JOBS = "/v1/admin/jobs/"
_READING_POSTS = frozenset({"/v1/estimates"})
_SECRETS = "/v1/webhooks/secret"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: the tenant it acts for, what it may do, and the name that its actions get in the log of events.

    `key_id` is None where the service is open, which it is on loopback until the first key is made.
    """

    tenant: str
    scopes: frozenset[Scope]
    actor: str
    key_id: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether the caller operates the service, and so sees every tenant's jobs."""
        return Scope.ADMIN in self.scopes

    def sees(self, job: Job) -> bool:
        """Whether the job exists as far as this caller is concerned."""
        return self.is_admin or job.tenant == self.tenant


LOCAL = Principal(DEFAULT, frozenset(Scope), "local")


@dataclass(frozen=True, slots=True)
class Visitor:
    """A caller, with the limits in force for its tenant."""

    principal: Principal
    limits: TenantLimits


class Door:
    """Tells who calls. Use it on the event loop only; what the database says is remembered for a second."""

    def __init__(
        self, keys: Keys, sessions: Sessions, tenants: Tenants, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys = keys
        self._sessions = sessions
        self._tenants = tenants
        self._clock = clock
        self._known: dict[bytes, tuple[Visitor | None, float]] = {}  # by the digest of what the caller says
        self.closed = False  # whether a key is known to have been made
        self._open_until = 0.0

    async def admit(self, authorization: str | None, session: str | None = None) -> Visitor:
        """Return who calls with this Authorization header, or without one in this session.

        Raises `RequestError` 401, or `StoreError`.
        """
        await self.look()
        if not self.closed:
            visitor = await self._whoever(b"", lambda: Visitor(LOCAL, self._tenants.in_force(LOCAL.tenant)))
        elif authorization is None and session:
            visitor = await self._whoever(b"session:" + session.encode(), lambda: self._of(self._sessions.key(session)))
        else:
            secret = _bearer(authorization)
            visitor = await self._whoever(b"key:" + secret.encode(), lambda: self._of(self._keys.authenticate(secret)))
        if visitor is None:
            raise _unauthorized("the API key is unknown, revoked or expired", error="invalid_token")
        return visitor

    async def look(self) -> None:
        """Find out whether a key has been made, unless that is known; raises `StoreError`."""
        if not self.closed and self._clock() >= self._open_until:
            asked = self._clock()
            self.closed = await asyncio.to_thread(self._keys.any_made)
            self._open_until = asked + REMEMBER_SECONDS

    async def _whoever(self, said: bytes, read: Callable[[], Visitor | None]) -> Visitor | None:
        """Return who says this, by `read` where that is not remembered."""
        name = hashlib.sha256(said).digest()
        visitor, until = self._known.get(name, (None, 0.0))
        if self._clock() >= until:
            asked = self._clock()
            visitor = await asyncio.to_thread(read)
            self._remember(name, visitor, asked + REMEMBER_SECONDS)
        return visitor

    def _of(self, key: Key | None) -> Visitor | None:
        if key is None:
            return None
        principal = Principal(key.tenant, key.scopes, f"{key.id} ({key.name})", key.id)
        return Visitor(principal, self._tenants.in_force(key.tenant))

    def _remember(self, name: bytes, visitor: Visitor | None, until: float) -> None:
        if len(self._known) >= _MOST:
            now = self._clock()
            self._known = {one: entry for one, entry in self._known.items() if entry[1] > now}
            if len(self._known) >= _MOST:  # a flood of keys that are none
                self._known.clear()
        self._known[name] = (visitor, until)


def _bearer(authorization: str | None) -> str:
    if authorization is None:
        raise _unauthorized("an API key is needed: Authorization: Bearer KEY")
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _unauthorized("the Authorization header must be: Bearer KEY")
    return secret.strip()


def _unauthorized(message: str, error: str | None = None) -> RequestError:
    challenge = 'Bearer realm="reelq"' + (f', error="{error}"' if error else "")
    return RequestError(401, "unauthorized", message, headers={"WWW-Authenticate": challenge})


def needed(method: str, path: str) -> Scope:
    """Return the scope that a request needs: to read for looks and questions, to submit for what changes something."""
    if path.startswith(_ADMIN) or path == _METRICS:  # both tell of every tenant
        return Scope.ADMIN
    page = pages.at(path)
    if page is not None:
        return page.scope
    if path.startswith(_SECRETS):  # whoever reads it can sign
        return Scope.SUBMIT
    return Scope.READ if method in _READING or path in _READING_POSTS else Scope.SUBMIT


def check_scope(principal: Principal, method: str, path: str) -> Scope:
    """Return the scope that a request needs; raises `RequestError` where the caller has not got it.

    A job that the caller cannot see is not there, also where the caller could do nothing to it: 404.
    """
    scope = needed(method, path)
    if scope in principal.scopes:
        return scope
    if path.startswith(_ADMIN_JOBS):
        job_id = path.removeprefix(_ADMIN_JOBS).partition("/")[0]
        raise NotFound(f"no job {job_id[:80]}")
    raise RequestError(
        403, "insufficient_scope", f"this needs a key with the scope {scope}; yours has {_listed(principal)}"
    )


def _listed(principal: Principal) -> str:
    return ", ".join(sorted(principal.scopes))
