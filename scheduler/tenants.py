"""Tenants: who shares the service, each with its limits."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, literal, select, text, union, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from scheduler.errors import InvalidParameter
from scheduler.limits import NAMES, NO_LIMITS, TenantLimits
from scheduler.policy import Policy
from scheduler.states import JobStatus
from scheduler.store import eventlog
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.wakeup import JOBS_WAITING, Wakeup

DEFAULT = "default"  # whose jobs are those of callers without a key
OPERATOR = "_operator"  # has an endpoint and a secret as tenants have; none can have this id
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_GATED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant: its own limits, those in force (where it has none, the settings' for all), and its unfinished jobs."""

    id: str
    limits: TenantLimits
    in_force: TenantLimits
    queued: int
    running: int


class Tenants:
    """The tenants' limits. Thread-safe. A tenant needs no row: without one it has no limits of its own."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup) -> None:
        self._database = database
        self._defaults = policy.tenant_limits
        self._wakeup = wakeup

    def get(self, tenant: str) -> Tenant:
        """Return a tenant, whether or not anything is known of it."""
        with self._database.read() as conn:
            return self._tenants(conn, [tenant])[0]

    def list(self) -> Sequence[Tenant]:
        """Return the tenants that have limits or keys of their own, and `default`, by id."""
        with self._database.read() as conn:
            return self._tenants(conn, conn.execute(_KNOWN).scalars().all())

    def in_force(self, tenant: str) -> TenantLimits:
        """Return the limits in force for a tenant, without counting its jobs."""
        with self._database.read() as conn:
            return self._look_up(conn, tenant)

    def set(self, tenant: str, limits: TenantLimits, actor: str) -> Tenant:
        """Give a tenant these limits of its own, in place of those it had.

        What waits keeps its place in line and its priority; `max_running` holds for it too. Raises `InvalidParameter`.
        """
        check_id(tenant)
        limits.check()
        with self._database.write() as conn:
            _wait_for_submits(conn)
            insert = sqlite_insert if conn.dialect.name == "sqlite" else postgres_insert
            values = insert(s.tenants).values(id=tenant, virtual_at=0.0, **asdict(limits))
            conn.execute(values.on_conflict_do_update(index_elements=["id"], set_=asdict(limits)))
            now = self._database.now(conn)
            eventlog.append(conn, "tenant.changed", tenant, now, tenant=tenant, actor=actor, data=asdict(limits))
        while self._gate_some(tenant):
            pass
        self._wakeup.notify(JOBS_WAITING)  # jobs that a limit has held back
        return self.get(tenant)

    def _gate_some(self, tenant: str) -> int:
        """Have claims heed the limit in force for so many of a tenant's unfinished jobs; returns how many it changed.

        The limit is read after the lock: of two calls that change it, the last one to come sees what the other wrote.
        """
        states = s.job_states
        with self._database.write() as conn:
            self._database.lock_all(conn)
            limited = self._look_up(conn, tenant).max_running is not None
            gate = tenant if limited else ""
            unfinished = states.c.status.in_(_OPEN)
            wrong = (
                select(states.c.job_id)
                .where(states.c.tenant == tenant, unfinished, states.c.gate != gate)
                .order_by(states.c.job_id)
                .limit(_GATED_AT_ONCE)
                .with_for_update()
            )
            found = conn.execute(wrong).scalars().all()
            if found:
                conn.execute(update(states).where(states.c.job_id.in_(found)).values(gate=gate))
        return len(found)

    def _tenants(self, conn: Connection, ids: Sequence[str]) -> Sequence[Tenant]:
        own = {row.id: _limits(row) for row in conn.execute(_ROWS.where(s.tenants.c.id.in_(ids)))}
        found = []
        for id_ in ids:
            limits = own.get(id_, NO_LIMITS)
            queued, running = (conn.execute(_COUNT, {"tenant": id_, "status": status}).scalar_one() for status in _OPEN)
            found.append(Tenant(id_, limits, limits.over(self._defaults), queued, running))
        return found

    def _look_up(self, conn: Connection, tenant: str) -> TenantLimits:
        row = conn.execute(_ROW, {"tenant": tenant}).one_or_none()
        return (_limits(row) if row else NO_LIMITS).over(self._defaults)


def check_id(tenant: str) -> None:
    """Raise `InvalidParameter` unless `tenant` has the form of a tenant's id."""
    if not _ID.fullmatch(tenant):
        words = "must be 1 to 63 small letters, digits, hyphens and underscores, the first a letter or digit"
        raise InvalidParameter("tenant", words)


_OPEN = (JobStatus.QUEUED, JobStatus.RUNNING)
_states = s.job_states.c
_ROWS = select(s.tenants.c.id, *(s.tenants.c[name] for name in NAMES))
_ROW = _ROWS.where(s.tenants.c.id == bindparam("tenant"))
_NAMED = select(s.tenants.c.id).where(s.tenants.c.id != OPERATOR)
_KNOWN = union(_NAMED, select(s.api_keys.c.tenant), select(literal(DEFAULT))).order_by(text("1"))
_COUNT = select(func.count()).where(_states.tenant == bindparam("tenant"), _states.status == bindparam("status"))


def _limits(row: Row[Any]) -> TenantLimits:
    return TenantLimits(**{name: getattr(row, name) for name in NAMES})


def _wait_for_submits(conn: Connection) -> None:
    """Let the submits end that have read the limits as they are, and others wait: see `submission.standings`.

    So whoever looks for a tenant's jobs once this transaction has ended finds all that came in under its old limits.
    """
    if conn.dialect.name == "postgresql":  # on SQLite a write is alone anyway
        conn.execute(text("LOCK TABLE tenants IN EXCLUSIVE MODE"))
