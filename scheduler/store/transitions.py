"""Every move a job can make, one function each: a guarded statement, and the event that tells of it.

                claim                 succeed, fail, stop
  queued ──────────────────▶ running ─────────────────────▶ succeeded | failed | cancelled
    ▲ │ cancel, refuse          │
    │ └──▶ cancelled | failed   └── requeue: release (burns no attempt); retry and expiry (burn one, back off)
    └───────────────────────────────┘

A move of a running job carries the lease's fence. Where the fence is no longer the job's own, nothing changes and
`LeaseLost` is raised. The claim is in `claims`, and success, as hot, is a script in `reports`. Whatever ends a job
drops its checkpoint with it; back in the queue, the job keeps it.

Two things stop a running job: a cancel and its deadline. Both are recorded as a request (`cancel_requested_at`), which
the worker hears of at its next step. What was asked for before the deadline ends `cancelled`; from the deadline on the
job ends `failed`, whoever ends it, unless it succeeds before anybody has asked. A queued job whose deadline has passed
is refused. An ended job changes once more at most: when its result expires.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from scheduler.errors import LeaseLost
from scheduler.footprint import Footprint
from scheduler.records import JobError, Measured
from scheduler.states import JobStatus, Outcome, Stage
from scheduler.store import checkpoints, eventlog
from scheduler.store import schema as s
from scheduler.store.reports import measured_columns

DEADLINE_EXCEEDED = "deadline_exceeded"  # the code of an error

_states = s.job_states


def fail(
    conn: Connection,
    job_id: str,
    fence: int,
    error: JobError,
    now: float,
    *,
    outcome: Outcome = Outcome.FAILED,
    measured: Measured | None = None,
) -> None:
    """running → failed, for good."""
    _leave(conn, job_id, fence, JobStatus.FAILED, finished_at=now, error_code=error.code, error_message=error.message)
    _close(conn, job_id, fence, outcome, now, error=error, measured=measured)
    checkpoints.drop(conn, job_id)
    _tell(conn, "job.failed", job_id, now, lease=fence, outcome=outcome, error=error)


def cancelled(
    conn: Connection,
    job_id: str,
    fence: int,
    now: float,
    *,
    outcome: Outcome = Outcome.CANCELLED,
    measured: Measured | None = None,
) -> None:
    """running → cancelled: the worker stopped, or the reaper found it dead with a cancel pending."""
    _leave(conn, job_id, fence, JobStatus.CANCELLED, finished_at=now)
    _close(conn, job_id, fence, outcome, now, measured=measured)
    checkpoints.drop(conn, job_id)
    _tell(conn, "job.cancelled", job_id, now, lease=fence, outcome=outcome)


def stop(
    conn: Connection,
    state: Row[Any],
    now: float,
    *,
    outcome: Outcome = Outcome.CANCELLED,
    measured: Measured | None = None,
) -> JobStatus | None:
    """running → cancelled or failed, for a job that a cancel or its deadline stops; None for one that may go on.

    `state` is its row, as `held` returns it.
    """
    asked_at, deadline_at = state.cancel_requested_at, state.deadline_at
    if deadline_at is not None and deadline_at <= (now if asked_at is None else asked_at):
        fail(conn, state.job_id, state.lease, late(deadline_at), now, outcome=outcome, measured=measured)
        return JobStatus.FAILED
    if asked_at is None:
        return None
    cancelled(conn, state.job_id, state.lease, now, outcome=outcome, measured=measured)
    return JobStatus.CANCELLED


def requeue(
    conn: Connection,
    job_id: str,
    fence: int,
    now: float,
    *,
    outcome: Outcome,
    not_before: float,
    burn_attempt: bool,
    error: JobError | None = None,
    measured: Measured | None = None,
) -> None:
    """running → queued, at its old rank, not before `not_before` (0: at once); a release gives the attempt back."""
    refund = 0 if burn_attempt else 1
    _leave(conn, job_id, fence, JobStatus.QUEUED, attempts=_states.c.attempts - refund, not_before=not_before)
    _close(conn, job_id, fence, outcome, now, error=error, measured=measured)
    _tell(conn, "job.requeued", job_id, now, lease=fence, outcome=outcome, error=error, not_before=not_before)


def cancel_queued(conn: Connection, job_id: str, now: float) -> bool:
    """queued → cancelled; False when the job is not queued."""
    if not _end_queued(conn, job_id, JobStatus.CANCELLED, now, None):
        return False
    _tell(conn, "job.cancelled", job_id, now)
    return True


def refuse_queued(conn: Connection, job_id: str, error: JobError, now: float) -> bool:
    """queued → failed, for a job that nothing could ever run, or that is late; False when the job is not queued."""
    if not _end_queued(conn, job_id, JobStatus.FAILED, now, error):
        return False
    _tell(conn, "job.failed", job_id, now, error=error)
    return True


def lock(conn: Connection, job_id: str) -> None:
    """Let nobody else move the job until the transaction ends (SQLite: the whole database is locked)."""
    conn.execute(select(_states.c.job_id).where(_states.c.job_id == job_id).with_for_update())


def request_cancel(conn: Connection, job_id: str, now: float, **data: Any) -> bool:
    """Record a cancel of a running job; it sticks. False when the job is not running or was asked before.

    `data` goes into the event.
    """
    asked = conn.execute(
        update(_states)
        .where(
            _states.c.job_id == job_id,
            _states.c.status == JobStatus.RUNNING,
            _states.c.cancel_requested_at.is_(None),
        )
        .values(cancel_requested_at=now, version=_states.c.version + 1)
    )
    if asked.rowcount != 1:
        return False
    _tell(conn, "job.cancel_requested", job_id, now, **data)
    return True


def enforce_deadline(conn: Connection, job_id: str, now: float) -> bool:
    """Fail a queued job whose deadline has passed, and ask a running one to stop; False when there is nothing to do."""
    late_one = select(_states.c.status, _states.c.deadline_at).where(
        _states.c.job_id == job_id, _states.c.deadline_at <= now
    )
    state = conn.execute(late_one.with_for_update()).one_or_none()
    if state is None:
        return False
    if state.status == JobStatus.QUEUED:
        return refuse_queued(conn, job_id, late(state.deadline_at), now)
    return request_cancel(conn, job_id, now, reason=DEADLINE_EXCEEDED)


def expire_result(conn: Connection, job_id: str, now: float) -> bool:
    """Record that the files of a result are gone; False when there is none, or that was known."""
    gone = conn.execute(
        update(s.results).where(s.results.c.job_id == job_id, s.results.c.expired_at.is_(None)).values(expired_at=now)
    )
    if gone.rowcount != 1:
        return False
    _touch(conn, job_id)
    _tell(conn, "job.result_expired", job_id, now)
    return True


def reprioritize(
    conn: Connection, job_id: str, priority: float, *, weight: float, rank: float, actor: str, now: float
) -> None:
    """Move a queued job, whose row is locked, to the place of another priority."""
    conn.execute(
        update(_states)
        .where(_states.c.job_id == job_id, _states.c.status == JobStatus.QUEUED)
        .values(priority=priority, weight=weight, rank=rank, version=_states.c.version + 1)
    )
    _tell(conn, "job.reprioritized", job_id, now, actor=actor, priority=priority)


def replan(
    conn: Connection,
    job_id: str,
    footprint: Footprint,
    memory_class: int,
    *,
    weight: float,
    rank: float,
    reason: str,
    actor: str,
    now: float,
) -> bool:
    """Give a queued job another plan, and the place that goes with it; False when it is not queued.

    A GPU that was kept for it was kept for what it needed before, and is let go.
    """
    replanned = conn.execute(
        update(_states)
        .where(_states.c.job_id == job_id, _states.c.status == JobStatus.QUEUED)
        .values(
            plan=footprint.plan,
            plan_reason=reason,
            est_model_bytes=footprint.model_bytes,
            est_working_bytes=footprint.working_bytes,
            est_seconds=footprint.seconds,
            memory_class=memory_class,
            weight=weight,
            rank=rank,
            version=_states.c.version + 1,
        )
    )
    if replanned.rowcount != 1:
        return False
    conn.execute(delete(s.reservations).where(s.reservations.c.job_id == job_id))
    _tell(conn, "job.replanned", job_id, now, actor=actor, plan=footprint.plan, reason=reason)
    return True


def request_release(conn: Connection, job_id: str, reason: str | None, *, actor: str, now: float) -> int | None:
    """Ask for a running job back at its next step; returns its fence, None where no lease is open or it was asked."""
    asked = conn.execute(
        update(s.leases)
        .where(s.leases.c.job_id == job_id, s.leases.c.release_requested_at.is_(None))
        .values(release_requested_at=now)
        .returning(s.leases.c.lease)
    ).scalar()
    if asked is not None:
        _tell(conn, "job.preempted", job_id, now, actor=actor, lease=asked, reason=reason)
    return asked


def resumed(conn: Connection, job_id: str, fence: int, step: int) -> None:
    """Note where the attempt of a held lease went on from."""
    a = s.attempts.c
    conn.execute(update(s.attempts).where(a.job_id == job_id, a.lease == fence).values(resumed_from_step=step))
    _touch(conn, job_id)


def discard_checkpoint(conn: Connection, job_id: str, fence: int, reason: str, now: float) -> None:
    """Drop the checkpoint of a job whose lease is held, because it is of no use."""
    checkpoints.drop(conn, job_id)
    _tell(conn, "job.checkpoint_discarded", job_id, now, lease=fence, reason=reason)


def held(conn: Connection, job_id: str, fence: int) -> Row[Any]:
    """Return (and lock) the state of a running job whose lease is `fence`; raises `LeaseLost` otherwise."""
    row = conn.execute(
        select(_states)
        .where(_states.c.job_id == job_id, _states.c.status == JobStatus.RUNNING, _states.c.lease == fence)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise lost(job_id, fence)
    return row


def late(deadline_at: float) -> JobError:
    """Return the error of a job that had not ended by its deadline."""
    deadline = datetime.fromtimestamp(deadline_at, UTC).isoformat().replace("+00:00", "Z")
    return JobError(DEADLINE_EXCEEDED, f"the job had not ended by its deadline, {deadline}")


def lost(job_id: str, fence: int) -> LeaseLost:
    """Return the error that a call with a lease that is not the job's own any more raises."""
    return LeaseLost(f"lease {fence} of {job_id} is no longer held")


def _touch(conn: Connection, job_id: str) -> None:
    conn.execute(update(_states).where(_states.c.job_id == job_id).values(version=_states.c.version + 1))


def _leave(conn: Connection, job_id: str, fence: int, status: JobStatus, **values: Any) -> None:
    moved = conn.execute(
        update(_states)
        .where(_states.c.job_id == job_id, _states.c.status == JobStatus.RUNNING, _states.c.lease == fence)
        .values(status=status, version=_states.c.version + 1, **values)
    )
    if moved.rowcount != 1:
        raise lost(job_id, fence)


def _close(
    conn: Connection,
    job_id: str,
    fence: int,
    outcome: Outcome,
    now: float,
    *,
    error: JobError | None = None,
    measured: Measured | None = None,
) -> None:
    own = s.leases.c
    closed = delete(s.leases).where(own.job_id == job_id, own.lease == fence).returning(own.worker_id, own.lane)
    if lane := conn.execute(closed).one_or_none():
        waiting = select(own.job_id).where(
            own.worker_id == lane.worker_id, own.lane == lane.lane, own.stage == Stage.LOADING
        )
        free = waiting.with_for_update(skip_locked=True)
        conn.execute(update(s.leases).where(own.job_id.in_(free)).values(progress_at=now))
    conn.execute(
        update(s.attempts)
        .where(s.attempts.c.job_id == job_id, s.attempts.c.lease == fence)
        .values(
            ended_at=now,
            outcome=outcome,
            error_code=error.code if error else None,
            error_message=error.message if error else None,
            **(measured_columns(measured) if measured else {}),
        )
    )


def _end_queued(conn: Connection, job_id: str, status: JobStatus, now: float, error: JobError | None) -> bool:
    ended = conn.execute(
        update(_states)
        .where(_states.c.job_id == job_id, _states.c.status == JobStatus.QUEUED)
        .values(
            status=status,
            finished_at=now,
            version=_states.c.version + 1,
            error_code=error.code if error else None,
            error_message=error.message if error else None,
        )
    )
    conn.execute(delete(s.reservations).where(s.reservations.c.job_id == job_id))
    if ended.rowcount != 1:
        return False
    checkpoints.drop(conn, job_id)
    return True


def _tell(
    conn: Connection,
    type_: str,
    job_id: str,
    now: float,
    *,
    actor: str | None = None,
    error: JobError | None = None,
    **data: Any,
) -> None:
    told = {**data, "error": {"code": error.code, "message": error.message}} if error else data
    tenant = conn.execute(select(s.jobs.c.tenant).where(s.jobs.c.id == job_id)).scalar()
    eventlog.append(conn, type_, job_id, now, tenant=tenant, actor=actor, data=told)
