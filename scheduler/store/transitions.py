"""Every move a job can make, one function each, each a guarded statement.

                claim                 succeed, fail, cancelled
  queued ──────────────────▶ running ───────────────────────────▶ succeeded | failed | cancelled
    ▲ │ cancel, refuse          │
    │ └──▶ cancelled | failed   └── requeue: release (burns no attempt); retry and expiry (burn one, back off)
    └───────────────────────────────┘

A move of a running job carries the lease's fence. Where the fence is no longer the job's own, nothing changes and
`LeaseLost` is raised.
"""

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from scheduler.errors import LeaseLost
from scheduler.records import JobError, Measured, Result
from scheduler.states import JobStatus, Outcome, Stage
from scheduler.store import schema as s

_states = s.job_states


def claim(
    conn: Connection,
    head: Row[Any],
    *,
    gpu_id: str,
    worker_id: str,
    reserved_bytes: int,
    expires_at: float,
    now: float,
) -> Row[Any] | None:
    """queued → running; returns the new (lease, attempts), or None when another worker was faster.

    `head` is a row with the job's id, plan, estimates and number of steps (see `claims.best`).
    """
    taken = conn.execute(
        update(_states)
        .where(_states.c.job_id == head.job_id, _states.c.status == JobStatus.QUEUED)
        .values(
            status=JobStatus.RUNNING,
            lease=_states.c.lease + 1,
            attempts=_states.c.attempts + 1,
            started_at=func.coalesce(_states.c.started_at, now),
            version=_states.c.version + 1,
        )
        .returning(_states.c.lease, _states.c.attempts)
    ).one_or_none()
    if taken is None:
        return None
    conn.execute(
        insert(s.leases).values(
            job_id=head.job_id,
            lease=taken.lease,
            gpu_id=gpu_id,
            worker_id=worker_id,
            reserved_bytes=reserved_bytes,
            expires_at=expires_at,
            stage=Stage.LOADING,
            step=0,
            steps=head.params["num_inference_steps"],
            fraction=0.0,
            reports=0,
        )
    )
    conn.execute(
        insert(s.attempts).values(
            job_id=head.job_id,
            lease=taken.lease,
            number=taken.attempts,
            gpu_id=gpu_id,
            worker_id=worker_id,
            plan=head.plan,
            predicted_vram_bytes=head.est_model_bytes + head.est_working_bytes,
            predicted_seconds=head.est_seconds,
            started_at=now,
        )
    )
    return taken


def succeed(conn: Connection, job_id: str, fence: int, result: Result, measured: Measured, now: float) -> None:
    """running → succeeded, and the result becomes visible: exactly once, by the fence."""
    _leave(conn, job_id, fence, JobStatus.SUCCEEDED, finished_at=now)
    _close(conn, job_id, fence, Outcome.SUCCEEDED, now, measured=measured)
    conn.execute(
        insert(s.results).values(
            job_id=job_id, **{c.name: getattr(result, c.name) for c in s.results.c if c.name != "job_id"}
        )
    )


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
    _leave(
        conn,
        job_id,
        fence,
        JobStatus.FAILED,
        finished_at=now,
        error_code=error.code,
        error_message=error.message,
    )
    _close(conn, job_id, fence, outcome, now, error=error, measured=measured)


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
    """running → queued, at its old rank, not before `not_before`; a release gives the attempt back."""
    refund = 0 if burn_attempt else 1
    _leave(conn, job_id, fence, JobStatus.QUEUED, attempts=_states.c.attempts - refund, not_before=not_before)
    _close(conn, job_id, fence, outcome, now, error=error, measured=measured)


def cancel_queued(conn: Connection, job_id: str, now: float) -> bool:
    """queued → cancelled; False when the job is not queued."""
    return _end_queued(conn, job_id, JobStatus.CANCELLED, now, None)


def refuse_queued(conn: Connection, job_id: str, error: JobError, now: float) -> bool:
    """queued → failed, for a job that nothing could ever run; False when the job is not queued."""
    return _end_queued(conn, job_id, JobStatus.FAILED, now, error)


def lock(conn: Connection, job_id: str) -> None:
    """Let nobody else move the job until the transaction ends (SQLite: the whole database is locked)."""
    conn.execute(select(_states.c.job_id).where(_states.c.job_id == job_id).with_for_update())


def request_cancel(conn: Connection, job_id: str, now: float) -> bool:
    """Record a cancel of a running job; it sticks. False when the job is not running or was asked before."""
    asked = conn.execute(
        update(_states)
        .where(
            _states.c.job_id == job_id,
            _states.c.status == JobStatus.RUNNING,
            _states.c.cancel_requested_at.is_(None),
        )
        .values(cancel_requested_at=now, version=_states.c.version + 1)
    )
    return asked.rowcount == 1


def held(conn: Connection, job_id: str, fence: int) -> Row[Any]:
    """Return (and lock) the state of a running job whose lease is `fence`; raises `LeaseLost` otherwise."""
    row = conn.execute(
        select(_states)
        .where(_states.c.job_id == job_id, _states.c.status == JobStatus.RUNNING, _states.c.lease == fence)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise LeaseLost(f"lease {fence} of {job_id} is no longer held")
    return row


def _leave(conn: Connection, job_id: str, fence: int, status: JobStatus, **values: Any) -> None:
    moved = conn.execute(
        update(_states)
        .where(_states.c.job_id == job_id, _states.c.status == JobStatus.RUNNING, _states.c.lease == fence)
        .values(status=status, version=_states.c.version + 1, **values)
    )
    if moved.rowcount != 1:
        raise LeaseLost(f"lease {fence} of {job_id} is no longer held")


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
    conn.execute(delete(s.leases).where(s.leases.c.job_id == job_id, s.leases.c.lease == fence))
    conn.execute(
        update(s.attempts)
        .where(s.attempts.c.job_id == job_id, s.attempts.c.lease == fence)
        .values(
            ended_at=now,
            outcome=outcome,
            error_code=error.code if error else None,
            error_message=error.message if error else None,
            vram_peak_bytes=measured.vram_peak_bytes if measured else None,
            run_seconds=measured.run_seconds if measured else None,
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
    return ended.rowcount == 1
