"""Limits of running jobs: the gates behind which the jobs of limited tenants queue.

A job's gate is its tenant where that may run only so many jobs at once, and '' where it may run any number. A gate is
open while the tenant runs fewer than it may. Gates are part of the claim index, so that a closed one is passed in one
seek, however many jobs are behind it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, select, text

from scheduler.states import JobStatus
from scheduler.store import schema as s

_UNLIMITED = 2**31 - 1
# Ordered as only the claim index is, or a planner that knows no better would take another one.
IN_ORDER = "ORDER BY q.gate, q.memory_class, q.rank DESC, q.job_id"


def is_open(gate: str) -> str:
    """Return the SQL condition that the gate named by an expression is open.

    It takes `:tenant_max_running`: how many jobs a tenant may run that has no limit of its own; NULL: any number.
    """
    return f"""({gate} = '' OR (
        SELECT count(*) FROM job_states r WHERE r.tenant = {gate} AND r.status = 'running'
    ) < coalesce(
        (SELECT t.max_running FROM tenants t WHERE t.id = {gate}), CAST(:tenant_max_running AS integer), {_UNLIMITED}
    ))"""  # noqa: S608  our own words


# The gates of one line, each found by a seek past the one before; the last row has none.
_GATES = text(
    f"""
    WITH RECURSIVE gates(gate) AS (
        SELECT (
            SELECT q.gate FROM job_states q
            WHERE q.status = 'queued' AND q.not_before = 0 AND q.model = :model AND q.plan = :plan {IN_ORDER} LIMIT 1
        )
        UNION ALL
        SELECT (
            SELECT q.gate FROM job_states q
            WHERE q.status = 'queued' AND q.not_before = 0 AND q.model = :model AND q.plan = :plan AND q.gate > g.gate
            {IN_ORDER} LIMIT 1
        )
        FROM gates g WHERE g.gate IS NOT NULL
    )
    SELECT g.gate, {is_open("g.gate")} AS is_open, (
        SELECT q.memory_class FROM job_states q
        WHERE q.status = 'queued' AND q.not_before = 0 AND q.model = :model AND q.plan = :plan AND q.gate = g.gate
        ORDER BY q.memory_class, q.rank DESC, q.job_id LIMIT 1
    ) AS smallest_class, (
        SELECT q.memory_class FROM job_states q
        WHERE q.status = 'queued' AND q.not_before = 0 AND q.model = :model AND q.plan = :plan AND q.gate = g.gate
        ORDER BY q.memory_class DESC, q.rank, q.job_id DESC LIMIT 1
    ) AS largest_class
    FROM gates g WHERE g.gate IS NOT NULL
    """  # noqa: S608  our own words
)


class Gate(NamedTuple):
    """A gate of a line, whether it is open, and the smallest and the largest memory class of the ready jobs there."""

    gate: str
    is_open: bool
    smallest_class: int
    largest_class: int


@dataclass(frozen=True, slots=True)
class Places:
    """How many jobs a tenant may run at once, and those that it runs."""

    limit: int
    running: frozenset[str]

    @property
    def full(self) -> bool:
        """Whether it may start no other job now."""
        return len(self.running) >= self.limit


def waiting(conn: Connection, model: str, plan: str, tenant_max_running: int | None) -> list[Gate]:
    """Return the gates behind which jobs of a model and plan are ready."""
    values = {"model": model, "plan": plan, "tenant_max_running": tenant_max_running}
    return [
        Gate(row.gate, bool(row.is_open), row.smallest_class, row.largest_class) for row in conn.execute(_GATES, values)
    ]


def places(conn: Connection, tenants: Collection[str], tenant_max_running: int | None) -> dict[str, Places]:
    """Return the places of those of the tenants that have a limit, of their own or `tenant_max_running`."""
    if not tenants:
        return {}
    own = select(s.tenants.c.id, s.tenants.c.max_running).where(s.tenants.c.id.in_(tenants))
    limits = {row.id: row.max_running for row in conn.execute(own)}
    states = s.job_states.c
    running = select(states.tenant, states.job_id).where(states.tenant.in_(tenants), states.status == JobStatus.RUNNING)
    jobs: dict[str, set[str]] = {tenant: set() for tenant in tenants}
    for row in conn.execute(running):
        jobs[row.tenant].add(row.job_id)
    found = {}
    for tenant in tenants:
        limit = limits.get(tenant)
        limit = tenant_max_running if limit is None else limit
        if limit is not None:
            found[tenant] = Places(limit, frozenset(jobs[tenant]))
    return found
