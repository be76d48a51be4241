"""What a worker does with a lease: report, and end the attempt one way or another. Every call is fenced."""

import random

from sqlalchemy import Connection, Row, select, update

from scheduler.errors import LeaseLost
from scheduler.policy import Policy
from scheduler.records import JobError, Lease, Measured, Progress, Result
from scheduler.states import JobStatus, Outcome
from scheduler.store import machines, transitions
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.wakeup import JOBS_WAITING, Wakeup, job_topic

WORKER_LOST = JobError("worker_lost", "the worker died or fell silent")


class Leases:
    """The worker's side of the queue. Each method raises `LeaseLost` once the lease is not the job's own."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup

    def report(self, lease: Lease, progress: Progress) -> bool:
        """Extend the lease and record progress; returns whether the job is to be cancelled."""
        with self._database.write() as conn:
            now = self._database.now(conn)
            extended = conn.execute(
                update(s.leases)
                .where(s.leases.c.job_id == lease.job_id, s.leases.c.lease == lease.fence)
                .values(
                    expires_at=now + self._policy.lease_seconds,
                    stage=progress.stage,
                    step=progress.step,
                    fraction=progress.fraction,
                    reports=s.leases.c.reports + 1,
                )
            )
            if extended.rowcount != 1:
                raise LeaseLost(f"lease {lease.fence} of {lease.job_id} is no longer held")
            machines.touch_worker(conn, lease.worker_id, now)
            asked = select(s.job_states.c.cancel_requested_at).where(s.job_states.c.job_id == lease.job_id)
            cancel_requested = conn.execute(asked).scalar() is not None
        self._wakeup.notify(job_topic(lease.job_id))
        return cancel_requested

    def cancel_requested(self, lease: Lease) -> bool:
        """Tell whether the job is to be cancelled, without extending the lease: it only reads."""
        held = (s.job_states.c.status == JobStatus.RUNNING) & (s.job_states.c.lease == lease.fence)
        asked = select(s.job_states.c.cancel_requested_at).where(s.job_states.c.job_id == lease.job_id, held)
        with self._database.read() as conn:
            row = conn.execute(asked).one_or_none()
        if row is None:
            raise LeaseLost(f"lease {lease.fence} of {lease.job_id} is no longer held")
        return row.cancel_requested_at is not None

    def succeed(self, lease: Lease, result: Result, measured: Measured) -> JobStatus:
        """Publish the result; a cancel that was asked for in time wins. Returns how the job ended."""
        with self._database.write() as conn:
            state = transitions.held(conn, lease.job_id, lease.fence)
            now = self._database.now(conn)
            if state.cancel_requested_at is None:
                transitions.succeed(conn, lease.job_id, lease.fence, result, measured, now)
                status = JobStatus.SUCCEEDED
            else:
                transitions.cancelled(conn, lease.job_id, lease.fence, now, measured=measured)
                status = JobStatus.CANCELLED
        self._announce(lease.job_id)
        return status

    def fail(self, lease: Lease, error: JobError, measured: Measured | None = None) -> None:
        """End the job as failed: trying again could not help."""
        with self._database.write() as conn:
            now = self._database.now(conn)
            transitions.fail(conn, lease.job_id, lease.fence, error, now, measured=measured)
        self._announce(lease.job_id)

    def retry(self, lease: Lease, error: JobError, measured: Measured | None = None) -> JobStatus:
        """Give the job back after an error, with backoff, or fail it when its attempts are used up."""
        with self._database.write() as conn:
            state = transitions.held(conn, lease.job_id, lease.fence)
            status = self._give_back(conn, state, Outcome.RETRIED, error, measured)
        self._announce(lease.job_id)
        return status

    def release(self, lease: Lease) -> JobStatus:
        """Give the job back unharmed (shutdown, drain): no attempt is burned, no wait added."""
        with self._database.write() as conn:
            state = transitions.held(conn, lease.job_id, lease.fence)
            now = self._database.now(conn)
            if state.cancel_requested_at is None:
                transitions.requeue(
                    conn, lease.job_id, lease.fence, now,
                    outcome=Outcome.RELEASED, not_before=0.0, burn_attempt=False,
                )  # fmt: skip
                status = JobStatus.QUEUED
            else:
                transitions.cancelled(conn, lease.job_id, lease.fence, now)
                status = JobStatus.CANCELLED
        self._announce(lease.job_id)
        return status

    def cancelled(self, lease: Lease, measured: Measured | None = None) -> None:
        """Confirm that a cancelled job has stopped."""
        with self._database.write() as conn:
            now = self._database.now(conn)
            transitions.cancelled(conn, lease.job_id, lease.fence, now, measured=measured)
        self._announce(lease.job_id)

    def expire_silent(self) -> list[str]:
        """Take back every lease whose worker fell silent; returns the jobs' ids. The reaper's call."""
        with self._database.read() as conn:
            overdue = select(s.leases.c.job_id, s.leases.c.lease).where(
                s.leases.c.expires_at < self._database.now(conn)
            )
            leases = conn.execute(overdue).all()
        return [job_id for job_id, fence in leases if self._expire(job_id, fence, only_overdue=True)]

    def expire_worker(self, worker_id: str) -> list[str]:
        """Take back the leases of a worker known to be dead, without waiting for them to run out."""
        with self._database.read() as conn:
            held = select(s.leases.c.job_id, s.leases.c.lease).where(s.leases.c.worker_id == worker_id)
            leases = conn.execute(held).all()
        return [job_id for job_id, fence in leases if self._expire(job_id, fence, only_overdue=False)]

    def _expire(self, job_id: str, fence: int, *, only_overdue: bool) -> bool:
        with self._database.write() as conn:
            try:
                state = transitions.held(conn, job_id, fence)  # the job's row before its lease's, as every ending does
            except LeaseLost:  # ended since it was listed
                return False
            lease = select(s.leases.c.expires_at).where(s.leases.c.job_id == job_id, s.leases.c.lease == fence)
            expires_at = conn.execute(lease.with_for_update()).scalar_one()
            if only_overdue and expires_at >= self._database.now(conn):  # heard from again since it was listed
                return False
            self._give_back(conn, state, Outcome.EXPIRED, WORKER_LOST, None)
        self._announce(job_id)
        return True

    def _give_back(
        self,
        conn: Connection,
        state: Row[tuple[object, ...]],
        outcome: Outcome,
        error: JobError,
        measured: Measured | None,
    ) -> JobStatus:
        now = self._database.now(conn)
        job_id, fence = state.job_id, state.lease
        if state.cancel_requested_at is not None:
            transitions.cancelled(conn, job_id, fence, now, outcome=outcome)
            return JobStatus.CANCELLED
        limit = conn.execute(select(s.jobs.c.max_attempts).where(s.jobs.c.id == job_id)).scalar_one()
        if state.attempts >= limit:
            final = JobError(error.code, f"{error.message} (attempt {state.attempts} of {limit})")
            transitions.fail(conn, job_id, fence, final, now, outcome=outcome, measured=measured)
            return JobStatus.FAILED
        delay = self._policy.retry_delay_seconds(state.attempts, random.random())  # noqa: S311  spreads load, no secret
        transitions.requeue(
            conn, job_id, fence, now,
            outcome=outcome, not_before=now + delay, burn_attempt=True, error=error, measured=measured,
        )  # fmt: skip
        return JobStatus.QUEUED

    def _announce(self, job_id: str) -> None:
        self._wakeup.notify(job_topic(job_id))
        self._wakeup.notify(JOBS_WAITING)
