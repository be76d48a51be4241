"""Queries about the waiting line of one model and plan: who is ahead, and by how much.

The line is in the order of claims: the highest rank first, the smaller id among equals. Jobs that are not to run yet
come after it, by the time at which they are, and then in the same order. `ix_job_states_line` holds all that is asked
here of ready jobs, so each query reads a stretch of that index and nothing else.
"""

import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, text

from scheduler.states import Outcome
from scheduler.store import schema as s
from scheduler.store import script
from scheduler.store.script import Statement

LAST_RANK = -sys.float_info.max  # behind all ready jobs
MOST = 1000  # jobs that a query counts or returns,
FEW = 64  # or returns where these will do

# Spelled out, for an engine to see that its partial index will do, and PostgreSQL that it need plan only once.
_LINE = "FROM job_states WHERE status = 'queued' AND not_before = 0 AND model = :model AND plan = :plan"
_ORDER = "ORDER BY rank DESC, job_id"
_AHEAD = Statement(
    f"""
    SELECT count(*) AS jobs, coalesce(sum(est_seconds), 0.0) AS seconds, coalesce(max(est_seconds), 0.0) AS longest
    FROM (
        SELECT est_seconds FROM (SELECT est_seconds {_LINE} AND rank > :rank {_ORDER} LIMIT {MOST}) above
        UNION ALL
        SELECT est_seconds FROM (SELECT est_seconds {_LINE} AND rank = :rank AND job_id < :job_id LIMIT {MOST}) beside
    ) ahead
    """  # noqa: S608  constants of this file
)
_FIRST = {few: Statement(f"SELECT rank, job_id, est_seconds {_LINE} {_ORDER} LIMIT {few}") for few in (FEW, MOST)}
_FIRST_OPEN = text(f"SELECT rank, job_id, est_seconds {_LINE} AND gate NOT IN :closed {_ORDER} LIMIT {FEW}").bindparams(
    bindparam("closed", expanding=True)
)
_RUNGS = text(
    f"""
    SELECT rank, job_id, jobs, seconds
    FROM (
        SELECT rank, job_id, row_number() OVER line AS jobs, sum(est_seconds) OVER line AS seconds
        {_LINE} WINDOW line AS ({_ORDER} ROWS UNBOUNDED PRECEDING)
    ) numbered
    WHERE jobs % :step = 0 ORDER BY jobs
    """  # noqa: S608
)
_DEFERRED = Statement(
    f"""
    SELECT not_before, model, plan, rank, job_id, est_seconds FROM job_states
    WHERE status = 'queued' AND not_before > 0 AND not_before <= :until
    ORDER BY not_before, rank DESC, job_id LIMIT {MOST}
    """  # noqa: S608
)
_PRESENT = Statement(
    """
    SELECT {now} AS now, paused_at, pause_reason, pause_actor,
           (SELECT not_before FROM job_states WHERE status = 'queued' AND not_before > 0
            ORDER BY not_before LIMIT 1) AS next_at
    FROM (SELECT 1) AS look LEFT JOIN queue_state ON paused_at IS NOT NULL
    """
)


class Ahead(NamedTuple):
    """Jobs ahead of a place in the line, the sum of their predicted seconds, and the largest of these."""

    jobs: int
    seconds: float
    longest: float


class Ready(NamedTuple):
    """A job of the line."""

    rank: float
    job_id: str
    est_seconds: float


class Rung(NamedTuple):
    """A job of the line, with how many stand there up to and with it, and the sum of their predicted seconds."""

    rank: float
    job_id: str
    jobs: int
    seconds: float


class Deferred(NamedTuple):
    """A queued job that is not in the line, and the place it will have there."""

    not_before: float
    model: str
    plan: str
    ready: Ready


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when the queue is paused, why, and by whom."""

    paused_at: float
    reason: str
    actor: str | None


@dataclass(frozen=True, slots=True)
class Present:
    """What time it is, whether the queue is paused, and when the next deferred job is to run, if there is one."""

    now: float
    pause: Pause | None
    next_at: float | None


def present(conn: Connection, clock: str) -> Present:
    """Return how things are by `clock`, an SQL expression."""
    (row,) = script.select(conn, _PRESENT, {}, clock=clock)
    pause = None if row.paused_at is None else Pause(row.paused_at, row.pause_reason, row.pause_actor)
    return Present(float(row.now), pause, row.next_at)


def ahead(conn: Connection, model: str, plan: str, rank: float, job_id: str) -> Ahead:
    """Count the ready jobs before a place in the line; `MOST` or more: the numbers are of some of them."""
    values = {"model": model, "plan": plan, "rank": rank, "job_id": job_id}
    return Ahead(*script.select(conn, _AHEAD, values)[0])


def first(conn: Connection, model: str, plan: str, most: int) -> list[Ready]:
    """Return the first ready jobs of the line in order, at most so many: `FEW` or `MOST`."""
    return [Ready._make(row) for row in script.select(conn, _FIRST[most], {"model": model, "plan": plan})]


def first_open(conn: Connection, model: str, plan: str, closed: Collection[str]) -> list[Ready]:
    """Return the first `FEW` ready jobs of the line that are not behind one of the `closed` gates.

    It walks past those that are: 1 µs a job.
    """
    if not closed:
        return first(conn, model, plan, FEW)
    values = {"model": model, "plan": plan, "closed": list(closed)}
    return [Ready._make(row) for row in conn.execute(_FIRST_OPEN, values).all()]


def rungs(conn: Connection, model: str, plan: str, step: int) -> list[Rung]:
    """Return every `step`-th ready job of the line, in order. It walks the whole line: 0.5 µs a job."""
    values = {"model": model, "plan": plan, "step": step}
    return [Rung._make(row) for row in conn.execute(_RUNGS, values).all()]


def deferred(conn: Connection, until: float) -> list[Deferred]:
    """Return the queued jobs, of all models, that are to be put into their lines by `until`: the soonest `MOST`."""
    return [
        Deferred(row.not_before, row.model, row.plan, Ready(row.rank, row.job_id, row.est_seconds))
        for row in script.select(conn, _DEFERRED, {"until": until})
    ]


def ratios(conn: Connection, model: str, plan: str, last: int) -> list[float]:
    """Return measured over predicted seconds of the last attempts that succeeded, in order of time."""
    done = s.attempts.c
    query = (
        select(done.run_seconds / done.predicted_seconds)
        .where(done.outcome == text(f"'{Outcome.SUCCEEDED.value}'"), done.model == model, done.plan == plan)
        .where(done.run_seconds > 0)
        .order_by(done.ended_at.desc())
        .limit(last)
    )
    return [float(ratio) for ratio in conn.execute(query).scalars().all()][::-1]
