"""Keeping the jobs of the off-peak window: put off while it is closed, and moved where its setting has changed.

A claim does for itself what it needs, so that no job of the window starts while it is closed, whoever runs. This sees
to it that the jobs are put off also where nobody claims, for those who look at the queue.
"""

import time
from collections.abc import Sequence

from scheduler import rank
from scheduler.policy import Policy
from scheduler.store import windows as store
from scheduler.store.database import Database
from scheduler.store.windows import Held, Place
from scheduler.wakeup import JOBS_WAITING, Wakeup

_BREATH_SECONDS = 0.005


class OffPeak:
    """A small maintenance service: call `run_once` every second or so. Any number may run at once. Thread-safe."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup
        self._followed = False

    def run_once(self) -> str | None:
        """Put jobs off while the window is closed; in the first round follow the setting. Says what it did, if it did.

        Only the first round does, or front ends with two settings would move jobs to and fro as long as both run.
        """
        told = None if self._followed else self._follow()
        self._followed = True
        return told or self._put_off()

    def _put_off(self) -> str | None:
        windows = self._policy.off_peak
        if windows is None:
            return None
        with self._database.read() as conn:
            now = self._database.now(conn)
            if windows.is_open(now) or not store.any_due(conn, now):
                return None
        opens_at = windows.next_open(now)
        with self._database.trip() as trip:
            jobs = store.put_off(trip, now, opens_at)
        return f"the off-peak window is closed: jobs put off to {windows.told(opens_at)}: {jobs}" if jobs else None

    def _follow(self) -> str | None:
        """Let the jobs that wait for the window start as it is set now, if they were put off by another setting."""
        windows = self._policy.off_peak
        signature = None if windows is None else str(windows)
        with self._database.read() as conn:
            if store.signature(conn) == signature:
                return None
        jobs, after = 0, ""
        while batch := self._follow_after(after):
            jobs, after = jobs + len(batch), batch[-1].job_id
            time.sleep(_BREATH_SECONDS)  # for the claims of other processes
        with self._database.write() as conn:
            store.sign(conn, signature)
        self._wakeup.notify(JOBS_WAITING)
        if not jobs:
            return None
        how = "removed: they start at any time" if windows is None else f"set to {windows}"
        return f"jobs that wait for the off-peak window: {jobs}; it has been {how}"

    def _follow_after(self, after: str) -> Sequence[Held]:
        with self._database.write() as conn:
            now = self._database.now(conn)
            held = store.held(conn, after)
            store.move(conn, [self._place(job, now) for job in held])
        return held

    def _place(self, job: Held, now: float) -> Place:
        """Where a job stands by the setting in force; one that may start earlier now has not aged less for that."""
        windows, asked_at = self._policy.off_peak, max(now, job.asked_not_before or 0.0)
        ready_at = asked_at if windows is None else windows.next_open(asked_at)
        virtual_at = min(job.virtual_at, ready_at)
        place = rank.rank(
            self._policy,
            job_weight=job.weight,
            est_seconds=job.est_seconds,
            priority=job.priority,
            virtual_at=virtual_at,
        )
        return Place(job.job_id, ready_at if ready_at > now else 0.0, ready_at, virtual_at, place)
