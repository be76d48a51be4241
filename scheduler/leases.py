"""What a worker does with a lease: report, and end the attempt one way or another. Every call is fenced."""

import json
import random
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from scheduler.errors import LeaseLost
from scheduler.policy import Policy
from scheduler.records import JobError, Lease, Measured, Progress, Result
from scheduler.states import Directive, JobStatus, Outcome
from scheduler.store import schema as s
from scheduler.store import transitions
from scheduler.store.database import Database
from scheduler.wakeup import JOBS_WAITING, Wakeup, job_topic

WORKER_LOST = JobError("worker_lost", "the worker died or fell silent")

_HELD = (
    select(s.job_states.c.cancel_requested_at, s.leases.c.release_requested_at)
    .join(s.leases, s.leases.c.job_id == s.job_states.c.job_id)
    .where(s.leases.c.job_id == bindparam("id"), s.leases.c.lease == bindparam("fence"))
)


class Leases:
    """The worker's side of the queue. Each method raises `LeaseLost` once the lease is not the job's own."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup

    def report(self, lease: Lease, progress: Progress) -> Directive:
        """Extend the lease and record progress; returns what the worker is to do."""
        values = {
            **_named(lease),
            "stage": progress.stage.value,
            "step": progress.step,
            "fraction": progress.fraction,
            "lease_seconds": self._policy.lease_seconds,
        }
        with self._database.trip() as trip:
            held = trip.commit(transitions.REPORT, values)
        if held is None:
            raise transitions.lost(lease.job_id, lease.fence)
        self._wakeup.notify(job_topic(lease.job_id))
        return _directive(held)

    def directive(self, lease: Lease) -> Directive:
        """Return what the worker is to do, without extending the lease: it only reads."""
        with self._database.read() as conn:
            held = conn.execute(_HELD, {"id": lease.job_id, "fence": lease.fence}).one_or_none()
        if held is None:
            raise transitions.lost(lease.job_id, lease.fence)
        return _directive(held)

    def succeed(self, lease: Lease, result: Result, measured: Measured) -> JobStatus:
        """Publish the result; a cancel that was asked for in time wins. Returns how the job ended."""
        values = {
            **_named(lease),
            **{name: getattr(result, name) for name in Result.__dataclass_fields__},
            "vram_peak_bytes": measured.vram_peak_bytes,
            "run_seconds": measured.run_seconds,
            "event": json.dumps({"lease": lease.fence}),
        }
        with self._database.trip() as trip:
            succeeded = trip.commit(transitions.SUCCEED, values) is not None
        status = JobStatus.SUCCEEDED
        if not succeeded:
            self.cancelled(lease, measured)  # raises `LeaseLost` where it was not a cancel that came first
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
        status = self._release(lease.job_id, lease.fence)
        if status is None:
            raise transitions.lost(lease.job_id, lease.fence)
        return status

    def _release(self, job_id: str, fence: int) -> JobStatus | None:
        """Give a job back; None when the lease is not its own any more."""
        with self._database.write() as conn:
            try:
                state = transitions.held(conn, job_id, fence)
            except LeaseLost:
                return None
            now = self._database.now(conn)
            if state.cancel_requested_at is None:
                transitions.requeue(
                    conn, job_id, fence, now, outcome=Outcome.RELEASED, not_before=0.0, burn_attempt=False
                )
                status = JobStatus.QUEUED
            else:
                transitions.cancelled(conn, job_id, fence, now)
                status = JobStatus.CANCELLED
        self._announce(job_id)
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
        return [job_id for job_id, fence in leases if self._expire(job_id, fence, only_overdue=True, error=WORKER_LOST)]

    def expire_worker(self, worker_id: str, error: JobError = WORKER_LOST) -> list[str]:
        """Take back the leases of a worker known to be dead (or hung: `error`), without waiting for them to run out."""
        return [
            job_id
            for job_id, fence in self._held_by(worker_id)
            if self._expire(job_id, fence, only_overdue=False, error=error)
        ]

    def release_worker(self, worker_id: str) -> list[str]:
        """Take back what a worker holds without burning attempts, because it is about to be killed on purpose."""
        return [job_id for job_id, fence in self._held_by(worker_id) if self._release(job_id, fence) is not None]

    def _held_by(self, worker_id: str) -> Sequence[tuple[str, int]]:
        held = select(s.leases.c.job_id, s.leases.c.lease).where(s.leases.c.worker_id == worker_id)
        with self._database.read() as conn:
            return [(job_id, fence) for job_id, fence in conn.execute(held)]

    def _expire(self, job_id: str, fence: int, *, only_overdue: bool, error: JobError) -> bool:
        with self._database.write() as conn:
            try:
                state = transitions.held(conn, job_id, fence)  # the job's row before its lease's, as every ending does
            except LeaseLost:  # ended since it was listed
                return False
            lease = select(s.leases.c.expires_at).where(s.leases.c.job_id == job_id, s.leases.c.lease == fence)
            expires_at = conn.execute(lease.with_for_update()).scalar_one()
            if only_overdue and expires_at >= self._database.now(conn):  # heard from again since it was listed
                return False
            self._give_back(conn, state, Outcome.EXPIRED, error, None)
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


def _named(lease: Lease) -> dict[str, Any]:
    return {"job_id": lease.job_id, "fence": lease.fence, "worker_id": lease.worker_id}


def _directive(held: Any) -> Directive:
    """A cancel goes before a release: the job need not come back."""
    if held.cancel_requested_at is not None:
        return Directive.CANCEL
    return Directive.CONTINUE if held.release_requested_at is None else Directive.RELEASE
