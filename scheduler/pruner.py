"""The pruner: removes what retention no longer keeps, ended jobs with their files and history, and events.

Any number may run at once, beside claims: every transaction is short, others get their turn between two, and a run is
bounded, for the next one goes on where it ended.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, select, tuple_

from scheduler.blobs import BlobStore
from scheduler.errors import SchedulerError
from scheduler.events import Events
from scheduler.policy import Policy
from scheduler.store import eventlog
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.sweeper import JOBS_PREFIX

_JOBS_AT_ONCE = 100
_BATCHES = 10  # of jobs, and of events, that a run takes at most
_BREATH_SECONDS = 0.05
_FILES_SECONDS = 2.0  # a blob store that is slow or away must not keep a run from ending
_OLDEST = (0.0, "")


@dataclass(slots=True)
class Pruned:
    """What one run did: jobs and events removed, and jobs that had to stay, the last of them because of `problem`."""

    jobs: int = 0
    events: int = 0
    stuck_jobs: int = 0
    problem: str | None = None

    def __bool__(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.jobs or self.events or self.stuck_jobs)


class Pruner:
    """A small maintenance service: call `run_once` every ten seconds or so."""

    def __init__(self, database: Database, blobs: BlobStore, policy: Policy) -> None:
        self._database = database
        self._blobs = blobs
        self._policy = policy
        self._events = Events(database, policy)
        self._place = _OLDEST  # the (finished_at, id) up to which old jobs have been looked at

    def run_once(self) -> Pruned:
        """Remove events, then jobs that ended, longer ago than the policy keeps them, a bounded number of each.

        A job whose files cannot be deleted stays, and its turn comes again after all the others'.
        """
        with self._database.read() as conn:
            before = self._database.now(conn) - self._policy.retention_seconds
        done = Pruned()
        self._events.number()
        _repeat(lambda: self._prune_events(before, done))
        until = time.monotonic() + _FILES_SECONDS
        _repeat(lambda: self._prune_jobs(before, until, done))
        return done

    def _prune_events(self, before: float, done: Pruned) -> bool:
        """Remove a batch; returns whether there may be another."""
        with self._database.write() as conn:
            pruned = eventlog.prune(conn, before)
        done.events += pruned
        return pruned == eventlog.AT_ONCE

    def _prune_jobs(self, before: float, until: float, done: Pruned) -> bool:
        """Remove a batch, files first: where that fails the job is still there. Says whether there may be another."""
        batch = self._old_jobs(before)
        without_files = []
        for job_id, finished_at in batch:
            if time.monotonic() >= until:
                break
            self._place = (finished_at, job_id)
            try:
                self._blobs.delete_prefix(f"{JOBS_PREFIX}/{job_id}")
            except SchedulerError as error:
                done.stuck_jobs += 1
                done.problem = str(error)
            else:
                without_files.append(job_id)
        else:
            if len(batch) < _JOBS_AT_ONCE:
                self._place = _OLDEST
        if without_files:
            self._delete(without_files, done)
        return len(batch) == _JOBS_AT_ONCE and time.monotonic() < until

    def _old_jobs(self, before: float) -> list[tuple[str, float]]:
        states = s.job_states.c
        query = (
            select(states.job_id, states.finished_at)
            .where(states.finished_at < before, tuple_(states.finished_at, states.job_id) > self._place)
            .order_by(states.finished_at, states.job_id)
            .limit(_JOBS_AT_ONCE)
        )
        with self._database.read() as conn:
            return [(job_id, finished_at) for job_id, finished_at in conn.execute(query)]

    def _delete(self, job_ids: list[str], done: Pruned) -> None:
        # A row that is locked is being deleted by somebody else; waiting for it could end in a deadlock.
        free = select(s.jobs.c.id).where(s.jobs.c.id.in_(job_ids)).with_for_update(skip_locked=True)
        try:
            with self._database.write() as conn:
                deleted = conn.execute(delete(s.jobs).where(s.jobs.c.id.in_(free))).rowcount
        except SchedulerError as error:
            done.stuck_jobs += len(job_ids)
            done.problem = str(error)
        else:
            done.jobs += deleted


def _repeat(batch: Callable[[], bool]) -> None:
    for _ in range(_BATCHES):
        if not batch():
            return
        time.sleep(_BREATH_SECONDS)
