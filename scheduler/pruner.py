"""The pruner: removes what is kept no longer: files of results, ended jobs with all that is theirs, and events.

Deliveries of webhooks go like events, once they are over; attempts too, unless their job is still there, and the counts
of refused submits. Samples of the GPUs have their own times (`samples`).

Any number may run at once, beside claims: every transaction is short, others get their turn between two, and a run is
bounded, for the next one goes on where it ended.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, exists, select, tuple_

from scheduler import samples
from scheduler.blobs import BlobStore
from scheduler.errors import SchedulerError
from scheduler.events import Events
from scheduler.policy import Policy
from scheduler.store import demand, eventlog, transitions, webhooks
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.sweeper import JOBS_PREFIX

_JOBS_AT_ONCE = 100
_ATTEMPTS_AT_ONCE = 1000
_BATCHES = 10  # of each kind, that a run takes at most
_BREATH_SECONDS = 0.05
_FILES_SECONDS = 2.0  # a blob store that is slow or away must not keep a run from ending
_OLDEST = (0.0, "")


@dataclass(slots=True)
class Pruned:
    """What one run did: what it removed of each kind, results expired, and jobs that had to stay as they were.

    `problem` is why the last of these had to.
    """

    jobs: int = 0
    events: int = 0
    results: int = 0
    deliveries: int = 0
    attempts: int = 0
    samples: int = 0
    refused_submits: int = 0
    stuck_jobs: int = 0
    problem: str | None = None

    def __bool__(self) -> bool:
        """Whether there was anything to do."""
        return self != Pruned()


class Line:
    """Jobs in the order of a time; `place` is the (time, id) up to which they have been looked at."""

    def __init__(self, at: ColumnElement[Any], job_id: ColumnElement[str], *only: ColumnElement[bool]) -> None:
        self._at = at
        self._job_id = job_id
        self._only = only
        self.place = _OLDEST

    def batch(self, before: float) -> Select[Any, str]:
        """Return the query for the next ones of which the time was before `before`."""
        key = (self._at, self._job_id)
        ahead = (self._at < before, self._at >= self.place[0], tuple_(*key) > self.place)
        return select(*key).where(*self._only, *ahead).order_by(*key).limit(_JOBS_AT_ONCE)


@dataclass(slots=True)
class _Cleared:
    """What a run did of one kind; `record` is what follows when the files of some jobs (a query for them) are gone."""

    record: Callable[[Connection, Select[str]], int]
    count: int = 0
    stuck: int = 0
    problem: str | None = None


class Pruner:
    """A small maintenance service: call `run_once` every ten seconds or so."""

    def __init__(self, database: Database, blobs: BlobStore, policy: Policy) -> None:
        self._database = database
        self._blobs = blobs
        self._policy = policy
        self._events = Events(database, policy)
        results, states = s.results.c, s.job_states.c
        expiring = (results.expired_at.is_(None), results.expires_at.is_not(None))  # as the index of them says
        self._expiring = Line(results.expires_at, results.job_id, *expiring)
        self._ended = Line(states.finished_at, states.job_id)

    def run_once(self) -> Pruned:
        """Remove events, the files of results that expire, and old jobs: a bounded number of each.

        Events, jobs and attempts go when they are older than the policy keeps them; a job without its video stays until
        then. A job whose files cannot be deleted stays, and its turn comes again after all the others'.
        """
        with self._database.read() as conn:
            now = self._database.now(conn)
        before = now - self._policy.retention_seconds
        done = Pruned()
        self._events.number()
        _repeat(lambda: self._prune_events(before, done))
        _repeat(lambda: self._prune_deliveries(before, done))
        until = time.monotonic() + _FILES_SECONDS
        expired, removed = _Cleared(self._expire), _Cleared(_remove)
        _repeat(lambda: self._clear(self._expiring, now, until, expired))
        _repeat(lambda: self._clear(self._ended, before, until, removed))
        done.results, done.jobs = expired.count, removed.count
        done.stuck_jobs, done.problem = expired.stuck + removed.stuck, removed.problem or expired.problem
        _repeat(lambda: self._prune_attempts(before, done))
        _repeat(lambda: self._prune_samples(now, done))
        _repeat(lambda: self._prune_refused_submits(before, done))
        return done

    def _prune_events(self, before: float, done: Pruned) -> bool:
        """Remove a batch; returns whether there may be another."""
        with self._database.write() as conn:
            pruned = eventlog.prune(conn, before)
        done.events += pruned
        return pruned == eventlog.AT_ONCE

    def _prune_deliveries(self, before: float, done: Pruned) -> bool:
        """Remove a batch; returns whether there may be another."""
        with self._database.write() as conn:
            pruned = webhooks.prune(conn, before)
        done.deliveries += pruned
        return pruned == webhooks.AT_ONCE

    def _prune_attempts(self, before: float, done: Pruned) -> bool:
        """Remove a batch of attempts whose jobs are gone; returns whether there may be another."""
        a = s.attempts.c
        old = select(a.job_id, a.lease).where(a.ended_at < before, ~exists().where(s.jobs.c.id == a.job_id))
        # In a WITH, for PostgreSQL may otherwise ask for the oldest again and again, and find others each time.
        oldest = old.order_by(a.ended_at).limit(_ATTEMPTS_AT_ONCE).with_for_update(skip_locked=True).cte("oldest")
        with self._database.write() as conn:
            pruned = conn.execute(delete(s.attempts).where(tuple_(a.job_id, a.lease).in_(select(oldest)))).rowcount
        done.attempts += pruned
        return pruned == _ATTEMPTS_AT_ONCE

    def _prune_samples(self, now: float, done: Pruned) -> bool:
        """Remove a batch; returns whether there may be another."""
        with self._database.write() as conn:
            pruned = samples.prune(conn, now)
        done.samples += pruned
        return pruned > 0

    def _prune_refused_submits(self, before: float, done: Pruned) -> bool:
        """Remove a batch; returns whether there may be another."""
        with self._database.write() as conn:
            pruned = demand.prune(conn, before)
        done.refused_submits += pruned
        return pruned == demand.AT_ONCE

    def _clear(self, line: Line, before: float, until: float, done: _Cleared) -> bool:
        """Clear a batch of jobs, files first: where that fails the rest is still there. Says if there may be more."""
        with self._database.read() as conn:
            batch = conn.execute(line.batch(before)).all()
        without_files = []
        for at, job_id in batch:
            if time.monotonic() >= until:
                break
            line.place = (at, job_id)
            try:
                self._blobs.delete_prefix(f"{JOBS_PREFIX}/{job_id}")
            except SchedulerError as error:
                done.stuck += 1
                done.problem = str(error)
            else:
                without_files.append(job_id)
        else:
            if len(batch) < _JOBS_AT_ONCE:
                line.place = _OLDEST
        if without_files:
            self._record(without_files, done)
        return len(batch) == _JOBS_AT_ONCE and time.monotonic() < until

    def _record(self, job_ids: list[str], done: _Cleared) -> None:
        # A row that is locked is being deleted by somebody else; waiting for it could end in a deadlock.
        free = select(s.jobs.c.id).where(s.jobs.c.id.in_(job_ids)).with_for_update(skip_locked=True)
        try:
            with self._database.write() as conn:
                recorded = done.record(conn, free)
        except SchedulerError as error:
            done.stuck += len(job_ids)
            done.problem = str(error)
        else:
            done.count += recorded

    def _expire(self, conn: Connection, free: Select[str]) -> int:
        now = self._database.now(conn)
        return sum(transitions.expire_result(conn, job_id, now) for job_id in list(conn.execute(free).scalars()))


def _remove(conn: Connection, free: Select[str]) -> int:
    return conn.execute(delete(s.jobs).where(s.jobs.c.id.in_(free))).rowcount


def _repeat(batch: Callable[[], bool]) -> None:
    for _ in range(_BATCHES):
        if not batch():
            return
        time.sleep(_BREATH_SECONDS)
