"""Every move a job can make, one function each: a guarded statement, and the event that tells of it.

                claim                 succeed, fail, cancelled
  queued ──────────────────▶ running ───────────────────────────▶ succeeded | failed | cancelled
    ▲ │ cancel, refuse          │
    │ └──▶ cancelled | failed   └── requeue: release (burns no attempt); retry and expiry (burn one, back off)
    └───────────────────────────────┘

A move of a running job carries the lease's fence. Where the fence is no longer the job's own, nothing changes and
`LeaseLost` is raised. The claim is in `claims`; success, as hot, is a script of the same kind here.
"""

from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from scheduler.errors import LeaseLost
from scheduler.records import JobError, Measured
from scheduler.states import JobStatus, Outcome
from scheduler.store import eventlog
from scheduler.store import schema as s
from scheduler.store.script import Chain

_states = s.job_states

# running → succeeded, and the result becomes visible: exactly once, by the fence.
SUCCEED = Chain(
    """
    UPDATE job_states SET status = 'succeeded', finished_at = {now}, version = version + 1
    WHERE job_id = :job_id AND status = 'running' AND lease = :fence AND cancel_requested_at IS NULL
    """,
    """
    UPDATE attempts
    SET ended_at = {now}, outcome = 'succeeded', vram_peak_bytes = :vram_peak_bytes, run_seconds = :run_seconds
    WHERE job_id = :job_id AND lease = :fence AND EXISTS (SELECT 1 FROM {moved} m)
    """,
    """
    INSERT INTO results (job_id, video_key, thumbnail_key, bytes, sha256, width, height, num_frames, fps,
                         duration_seconds)
    SELECT m.job_id, :video_key, :thumbnail_key, :bytes, :sha256, :width, :height, :num_frames, :fps, :duration_seconds
    FROM {moved} m
    """,
    """
    INSERT INTO events (position, at, type, subject, tenant, data)
    SELECT {position}, m.finished_at, 'job.succeeded', m.job_id, j.tenant, :event{json}
    FROM {moved} m JOIN jobs j ON j.id = m.job_id
    """,
    "DELETE FROM leases WHERE job_id = :job_id AND lease = :fence AND EXISTS (SELECT 1 FROM {moved} m)",
    table="job_states",
    still="job_id = :job_id AND status = 'succeeded' AND lease = :fence",
    answer="SELECT m.job_id FROM {moved} m",
)

# A sign of life: the lease's and its worker's.
REPORT = Chain(
    """
    UPDATE leases
    SET expires_at = {now} + :lease_seconds, reports = reports + 1,
        progress_at = CASE WHEN stage = :stage AND step = :step AND fraction = :fraction THEN progress_at
                           ELSE {now} END,
        stage = :stage, step = :step, fraction = :fraction
    WHERE job_id = :job_id AND lease = :fence
    """,
    "UPDATE workers SET seen_at = {now} WHERE id = :worker_id AND EXISTS (SELECT 1 FROM {moved} m)",
    table="leases",
    still="job_id = :job_id AND lease = :fence",
    answer="""
    SELECT s.cancel_requested_at, m.release_requested_at FROM {moved} m JOIN job_states s ON s.job_id = m.job_id
    """,
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
    _leave(conn, job_id, fence, JobStatus.FAILED, finished_at=now, error_code=error.code, error_message=error.message)
    _close(conn, job_id, fence, outcome, now, error=error, measured=measured)
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
    _tell(conn, "job.cancelled", job_id, now, lease=fence, outcome=outcome)


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
    """queued → failed, for a job that nothing could ever run; False when the job is not queued."""
    if not _end_queued(conn, job_id, JobStatus.FAILED, now, error):
        return False
    _tell(conn, "job.failed", job_id, now, error=error)
    return True


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
    if asked.rowcount != 1:
        return False
    _tell(conn, "job.cancel_requested", job_id, now)
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


def lost(job_id: str, fence: int) -> LeaseLost:
    """Return the error that a call with a lease that is not the job's own any more raises."""
    return LeaseLost(f"lease {fence} of {job_id} is no longer held")


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
    conn.execute(delete(s.reservations).where(s.reservations.c.job_id == job_id))
    return ended.rowcount == 1


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
