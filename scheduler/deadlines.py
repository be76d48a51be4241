"""Deadlines: a job that has not ended by its own fails in the queue, and is asked to stop where it runs."""

from sqlalchemy import Select, select

from scheduler.store import schema as s
from scheduler.store import transitions
from scheduler.store.database import Database
from scheduler.wakeup import JOBS_WAITING, Wakeup, job_topic

_BATCH = 100
_BATCHES = 10  # that one call takes at most


class Deadlines:
    """The deadlines of all jobs. Any number may enforce them at once."""

    def __init__(self, database: Database, wakeup: Wakeup) -> None:
        self._database = database
        self._wakeup = wakeup

    def enforce(self) -> list[str]:
        """Act on the jobs whose deadline has passed, the longest ago first; returns their ids.

        A bounded number of them: the next call goes on.
        """
        enforced: list[str] = []
        for _ in range(_BATCHES):
            late = self._late()
            enforced += [job_id for job_id in late if self._enforce(job_id)]
            if len(late) < _BATCH:
                break
        if enforced:
            self._wakeup.notify(JOBS_WAITING)  # a GPU may have been kept for one of them
        return enforced

    def _late(self) -> list[str]:
        with self._database.read() as conn:
            return list(conn.execute(overdue(self._database.now(conn))).scalars())

    def _enforce(self, job_id: str) -> bool:
        with self._database.write() as conn:
            enforced = transitions.enforce_deadline(conn, job_id, self._database.now(conn))
        self._wakeup.notify(job_topic(job_id))
        return enforced


def overdue(now: float) -> Select[str]:
    """Return the query for a batch of jobs whose deadline has passed, and that have not been asked to stop."""
    states = s.job_states.c
    indexed = (states.finished_at.is_(None), states.deadline_at.is_not(None))
    return (
        select(states.job_id)
        .where(*indexed, states.deadline_at <= now, states.cancel_requested_at.is_(None))
        .order_by(states.deadline_at)
        .limit(_BATCH)
    )
