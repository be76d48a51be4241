"""What a worker does with a lease: report, and end the attempt one way or another. Every call is fenced."""

import json
import random
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import Connection, Row, bindparam, select

from scheduler import held, relocating
from scheduler.errors import LeaseLost
from scheduler.footprints import Footprints
from scheduler.policy import Policy
from scheduler.records import Checkpoint, JobError, Lease, Measured, Progress, Result
from scheduler.states import Directive, JobStatus, Outcome
from scheduler.store import checkpoints, notices, reports, transitions
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.wakeup import JOBS_WAITING, Wakeup, job_topic

log = structlog.get_logger(__name__)

WORKER_LOST = JobError("worker_lost", "the worker died or fell silent")
CHECKPOINT_DISCARDED = "checkpoint_discarded"  # the code of a notice
_ACTOR = "scheduler"

_HELD = (
    select(s.job_states.c.cancel_requested_at, s.leases.c.release_requested_at)
    .join(s.leases, s.leases.c.job_id == s.job_states.c.job_id)
    .where(s.leases.c.job_id == bindparam("id"), s.leases.c.lease == bindparam("fence"))
)


class Leases:
    """The worker's side of the queue. Each method raises `LeaseLost` once the lease is not the job's own."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup, footprints: Footprints) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup
        self._footprints = footprints

    def report(self, lease: Lease, progress: Progress, checkpoint: Checkpoint | None = None) -> Directive:
        """Extend the lease and record progress; returns what the worker is to do.

        `checkpoint`, stored by now, is what the next attempt would go on from, unless this one has named a later step.
        """
        chain = reports.REPORT if checkpoint is None else reports.REPORT_SAVED
        saved = {} if checkpoint is None else checkpoints.named(checkpoint)
        values = {
            **saved,
            **_named(lease),
            "stage": progress.stage.value,
            "step": progress.step,
            "fraction": progress.fraction,
            "lease_seconds": self._policy.lease_seconds,
        }
        with self._database.trip() as trip:
            known = trip.commit(chain, values)
        if known is None:
            raise transitions.lost(lease.job_id, lease.fence)
        self._wakeup.notify(job_topic(lease.job_id))
        return _directive(known)

    def directive(self, lease: Lease) -> Directive:
        """Return what the worker is to do, without extending the lease: it only reads."""
        with self._database.read() as conn:
            known = conn.execute(_HELD, {"id": lease.job_id, "fence": lease.fence}).one_or_none()
        if known is None:
            raise transitions.lost(lease.job_id, lease.fence)
        return _directive(known)

    def succeed(self, lease: Lease, result: Result, measured: Measured) -> JobStatus:
        """Publish the result; a cancel that was asked for in time wins, and so does a deadline once it is enforced.

        Returns how the job ended.
        """
        values = {
            **_named(lease),
            **{name: getattr(result, name) for name in Result.__dataclass_fields__},
            **reports.measures(measured),
            "lane": lease.lane,
            "result_seconds": self._policy.result_seconds,
            "event": json.dumps({"lease": lease.fence}),
        }
        with self._database.trip() as trip:
            succeeded = trip.commit(reports.SUCCEED, values) is not None
        if not succeeded:
            return self.cancelled(lease, measured)  # raises `LeaseLost` where nobody had asked the job to stop
        self._announce(lease.job_id)
        return JobStatus.SUCCEEDED

    def fail(self, lease: Lease, error: JobError, measured: Measured | None = None) -> None:
        """End the job as failed: trying again could not help."""
        with self._database.write() as conn:
            now = self._database.now(conn)
            transitions.fail(conn, lease.job_id, lease.fence, error, now, measured=measured)
        self._announce(lease.job_id)

    def retry(
        self,
        lease: Lease,
        error: JobError,
        measured: Measured | None = None,
        *,
        checkpoint: Checkpoint | None = None,
    ) -> JobStatus:
        """Give the job back after an error, with backoff, or fail it when its attempts are used up.

        It will go on from `checkpoint`, or from what was named last.
        """
        with self._database.write() as conn:
            state = transitions.held(conn, lease.job_id, lease.fence)
            status = self._give_back(conn, state, Outcome.RETRIED, error, measured)
            if checkpoint is not None and status is JobStatus.QUEUED:
                checkpoints.keep(conn, lease.job_id, lease.fence, checkpoint, self._database.now(conn))
        self._announce(lease.job_id)
        return status

    def numerical_failure(
        self,
        lease: Lease,
        error: JobError,
        measured: Measured | None = None,
        *,
        checkpoint: Checkpoint | None = None,
    ) -> JobStatus:
        """Do what `retry` does; `error`'s code is `numerical_error`. A model that fails so repeatedly is held.

        Repeatedly means its last three runs, of at least two jobs: no device, and no single job, is to blame then.
        """
        status = self.retry(lease, error, measured, checkpoint=checkpoint)
        with self._database.read() as conn:  # it looks at many attempts, which nobody should have to wait for
            failing = held.keeps_failing(conn, lease.model) and not held.is_held(conn, lease.model)
        if failing:
            with self._database.write() as conn:
                reason = f"its last runs have all failed by their numbers: {error.message}"
                held.hold(conn, lease.model, reason, _ACTOR, self._database.now(conn))
            self._wakeup.notify(JOBS_WAITING)
        return status

    def out_of_memory(
        self, lease: Lease, measured: Measured | None, *, checkpoint: Checkpoint | None = None, stage: str
    ) -> JobStatus:
        """Move the job to a leaner plan or a larger GPU, at once and at no attempt; fail it when there is none left.

        What it had, and was not enough, is remembered for later predictions. `stage` is where it failed.
        """
        predictor = self._footprints.current()
        with self._database.write() as conn:
            state = transitions.held(conn, lease.job_id, lease.fence)
            now = self._database.now(conn)
            relocating.observe(conn, lease, measured, now)
            stopped = transitions.stop(conn, state, now, measured=measured)
            if stopped is not None:
                status = stopped
            else:
                status = relocating.move(
                    conn, lease, state,
                    measured=measured, checkpoint=checkpoint, stage=stage,
                    predictor=predictor, policy=self._policy, now=now,
                )  # fmt: skip
        self._announce(lease.job_id)
        return status

    def resumed(self, lease: Lease, step: int) -> None:
        """Note that this attempt goes on from a checkpoint, after `step` steps."""
        with self._database.write() as conn:
            transitions.held(conn, lease.job_id, lease.fence)
            transitions.resumed(conn, lease.job_id, lease.fence, step)
        self._wakeup.notify(job_topic(lease.job_id))

    def discard_checkpoint(self, lease: Lease, reason: str) -> None:
        """Forget what earlier attempts have left, because this one cannot go on from it; the job says so."""
        with self._database.write() as conn:
            transitions.held(conn, lease.job_id, lease.fence)
            now = self._database.now(conn)
            transitions.discard_checkpoint(conn, lease.job_id, lease.fence, reason, now)
            notices.append(conn, lease.job_id, CHECKPOINT_DISCARDED, f"{reason}; the job starts anew", now)
        self._wakeup.notify(job_topic(lease.job_id))

    def notice(self, lease: Lease, code: str, message: str) -> None:
        """Have the job tell its caller something: a stable code, and one line. The last 20 are kept."""
        with self._database.write() as conn:
            transitions.held(conn, lease.job_id, lease.fence)
            notices.append(conn, lease.job_id, code, message, self._database.now(conn))
        self._wakeup.notify(job_topic(lease.job_id))

    def release(
        self, lease: Lease, *, checkpoint: Checkpoint | None = None, measured: Measured | None = None
    ) -> JobStatus:
        """Give the job back unharmed (shutdown, drain, preemption): no attempt is burned, no wait added."""
        status = self._release(lease.job_id, lease.fence, checkpoint, measured)
        if status is None:
            raise transitions.lost(lease.job_id, lease.fence)
        return status

    def _release(
        self, job_id: str, fence: int, checkpoint: Checkpoint | None = None, measured: Measured | None = None
    ) -> JobStatus | None:
        """Give a job back; None when the lease is not its own any more."""
        with self._database.write() as conn:
            try:
                state = transitions.held(conn, job_id, fence)
            except LeaseLost:
                return None
            now = self._database.now(conn)
            status = transitions.stop(conn, state, now, measured=measured)
            if status is None:
                transitions.requeue(
                    conn, job_id, fence, now,
                    outcome=Outcome.RELEASED, not_before=0.0, burn_attempt=False, measured=measured,
                )  # fmt: skip
                if checkpoint is not None:
                    checkpoints.keep(conn, job_id, fence, checkpoint, now)
                status = JobStatus.QUEUED
        self._announce(job_id)
        return status

    def cancelled(self, lease: Lease, measured: Measured | None = None) -> JobStatus:
        """Confirm that a job which was asked to stop has stopped; returns how it ended: a late one has failed."""
        with self._database.write() as conn:
            state = transitions.held(conn, lease.job_id, lease.fence)
            now = self._database.now(conn)
            status = transitions.stop(conn, state, now, measured=measured)
            if status is None:
                transitions.cancelled(conn, lease.job_id, lease.fence, now, measured=measured)
                status = JobStatus.CANCELLED
        self._announce(lease.job_id)
        return status

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
            for job_id, fence, _ in self._held_by(worker_id)
            if self._expire(job_id, fence, only_overdue=False, error=error)
        ]

    def release_worker(self, worker_id: str) -> list[str]:
        """Take back what a worker holds without burning attempts, because it is about to be killed on purpose."""
        released = []
        for job_id, fence, attempt in self._held_by(worker_id):
            if self._release(job_id, fence) is not None:
                released.append(job_id)
                log.warning("lease taken back", job_id=job_id, attempt=attempt, lease=fence, worker_id=worker_id)
        return released

    def _held_by(self, worker_id: str) -> Sequence[tuple[str, int, int]]:
        """(job id, fence, attempt) of each lease of a worker."""
        a = s.attempts.c
        held = (
            select(s.leases.c.job_id, s.leases.c.lease, a.number)
            .join(s.attempts, (a.job_id == s.leases.c.job_id) & (a.lease == s.leases.c.lease))
            .where(s.leases.c.worker_id == worker_id)
        )
        with self._database.read() as conn:
            return [(job_id, fence, attempt) for job_id, fence, attempt in conn.execute(held)]

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
        log.warning("lease taken back", job_id=job_id, attempt=state.attempts, lease=fence, reason=error.message)
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
        stopped = transitions.stop(conn, state, now, outcome=outcome)
        if stopped is not None:
            return stopped
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


def _directive(known: Any) -> Directive:
    """A cancel goes before a release: the job need not come back."""
    if known.cancel_requested_at is not None:
        return Directive.CANCEL
    return Directive.CONTINUE if known.release_requested_at is None else Directive.RELEASE
