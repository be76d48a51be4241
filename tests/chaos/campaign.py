"""A campaign: real processes work a queue off while they are killed and stopped, and the database taken away."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Row, func, select, text

from scheduler.errors import StoreUnreachable
from scheduler.service import Scheduler
from scheduler.store import schema as s
from tests.chaos import postgres, world
from tests.chaos.crew import Crew, Member
from tests.chaos.plan import Deed, Plan
from tests.chaos.report import Report, back_seconds
from tests.chaos.verdict import judge
from tests.support.databases import PostgresServer
from tests.support.fleet import open_scheduler

_TICK_SECONDS = 0.05
_AWAY_SECONDS = 1.0  # how long a restarted server stays down
_STALL_SECONDS = 60.0  # without one job that ended: the campaign gives up
_SUBMITTERS = 4
# How long to stop
_NOTHING_LOST_SECONDS = 1.2 * world.POLICY.lease_seconds  # a process that held no lease,
_HELD_UP_SECONDS = 2.0 * world.POLICY.lease_seconds  # one that was stopped in a transaction that all wait for,
_NOT_TAKEN_UP_SECONDS = 3.0 * world.POLICY.lease_seconds  # and one that has lost a job which nobody runs yet.


class Campaign:
    """One run of a plan on a migrated, empty database, in an empty folder; `server` is needed only for outages."""

    def __init__(self, plan: Plan, url: str, folder: Path, server: PostgresServer | None = None) -> None:
        self._plan = plan
        self._url = url
        self._folder = folder
        self._server = server
        self._dice = Random(plan.seed)  # noqa: S311  a campaign can be repeated
        self._journals = folder / "journals"
        self._crew = Crew(url, folder, self._journals, self._dice)
        self._counts: Counter[str] = Counter()
        self._violations: list[str] = []
        self._outages: list[tuple[Deed, float]] = []  # and when they began, in seconds since 1970
        self._leases: Sequence[Row[Any]] = ()  # at the last look
        self._most_leases = 0
        self._over = threading.Event()

    def run(self) -> Report:
        """Run the plan, then judge what it left; no process outlives this call."""
        started = time.monotonic()
        self._journals.mkdir()
        with (
            open_scheduler(self._url, self._folder, world.POLICY) as scheduler,
            ThreadPoolExecutor(_SUBMITTERS) as threads,
        ):
            scheduler.fleet.register(world.MODEL, [world.gpu(gpu_id) for gpu_id in world.GPU_IDS])
            world.look(scheduler)
            job_ids = self._submit_half(scheduler)
            try:
                self._crew.start()
                firsts = range(len(job_ids), len(job_ids) + _SUBMITTERS)
                submits = [threads.submit(self._submit, scheduler, first) for first in firsts]
                self._disturb(scheduler, submits)
                self._end(scheduler)
            finally:
                self._over.set()
                self._crew.close()
            verdict = judge(scheduler, self._journals, job_ids + [each for done in submits for each in done.result()])
        return Report(
            counts={
                "jobs": self._plan.jobs,
                "processes started": self._crew.started,
                "workers killed": self._counts["workers killed"],
                "reapers killed": self._counts["reapers killed"],
                "processes stopped": self._counts["processes stopped"],
                "server restarts": self._counts["server restarts"],
                "connections terminated": self._counts["connections terminated"],
                "submits repeated": self._counts["submits repeated"],
                **verdict.counts,
                "looks at the ledger": self._counts["looks"],
                "most leases on one GPU": self._most_leases,
            },
            back_seconds=[(outage, back_seconds(verdict.succeeded_at, moment)) for outage, moment in self._outages],
            run_seconds=time.monotonic() - started,
            violations=[*self._violations, *verdict.violations],
        )

    def _submit_half(self, scheduler: Scheduler) -> list[str]:
        """Submit half of the jobs in batches, so that the workers find a backlog; returns their ids."""
        new = [world.job(number, self._plan.seed) for number in range(self._plan.jobs // 2)]
        job_ids = []
        for answer in scheduler.queue.submit_many(new):
            if isinstance(answer, Exception):
                raise answer
            job_ids.append(answer.job.id)
        return job_ids

    def _submit(self, scheduler: Scheduler, first: int) -> list[str]:
        """Submit one submitter's share of the other half, each job until it is acknowledged; returns their ids."""
        job_ids = []
        for number in range(first, self._plan.jobs, _SUBMITTERS):
            while not self._over.is_set():
                try:
                    job_ids.append(scheduler.queue.submit(world.job(number, self._plan.seed)).job.id)
                    break
                except StoreUnreachable:
                    self._counts["submits repeated"] += 1
                    self._over.wait(world.RETRY_SECONDS)
        return job_ids

    def _disturb(self, scheduler: Scheduler, submits: Sequence[Future[list[str]]]) -> None:
        """Do what the plan says, when enough jobs have ended, until all have."""
        todo = self._plan.schedule(self._dice)
        ended, moved_at = 0, time.monotonic()
        while ended < self._plan.jobs or not all(submit.done() for submit in submits):
            for submit in submits:
                if submit.done():
                    submit.result()  # raises what stopped it
            ended_before = ended
            with suppress(StoreUnreachable):
                ended = self._look(scheduler)
            if ended != ended_before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > _STALL_SECONDS:
                self._violations.append(f"no job ended for {_STALL_SECONDS:g} s: {ended} of {self._plan.jobs} have")
                return
            while todo and todo[0][0] <= ended and self._crew.running():
                self._do(todo.pop(0)[1], scheduler)
            for member in self._crew.stopped():
                if self._stopped_enough(member):
                    self._crew.resume(member)
            self._violations += self._crew.replace_fallen()
            time.sleep(_TICK_SECONDS)

    def _do(self, deed: Deed, scheduler: Scheduler) -> None:
        running = self._crew.running()
        if deed is Deed.KILL:
            self._kill(self._dice.choice(running), scheduler)
        elif deed is Deed.STOP:
            holders = {lease.worker_id for lease in self._leases}
            self._crew.stop(self._dice.choice([each for each in running if each.worker_id in holders] or running))
            self._counts["processes stopped"] += 1
        else:
            self._take_away(deed)

    def _kill(self, member: Member, scheduler: Scheduler) -> None:
        """Kill a process and start another; half of the dead workers are noticed at once, as by a supervisor."""
        self._crew.kill(member)
        worker_id = member.worker_id
        self._counts["reapers killed" if worker_id is None else "workers killed"] += 1
        if worker_id is not None and self._dice.random() < 0.5:
            world.insist(lambda: scheduler.fleet.worker_gone(worker_id))
        self._crew.replace(member)

    def _take_away(self, outage: Deed) -> None:
        assert self._server is not None, "only a PostgreSQL server of the campaign's own can be taken away"
        self._outages.append((outage, time.time()))
        if outage is Deed.TERMINATE:
            self._counts["connections terminated"] += postgres.terminate_connections(self._server)
            return
        if outage is Deed.CRASH:
            postgres.crash(self._server)
        else:
            self._server.stop()
        time.sleep(_AWAY_SECONDS)
        self._server.start()
        self._counts["server restarts"] += 1

    def _stopped_enough(self, member: Member) -> bool:
        """Whether a process has been stopped past its lease, and best while another worker runs the job it had."""
        seconds = time.monotonic() - (member.stopped_at or 0.0)
        mine = next((lease.job_id for lease in self._leases if lease.worker_id == member.worker_id), None)
        if mine is not None:
            member.had_job_id = mine
            return seconds >= _HELD_UP_SECONDS
        if member.had_job_id is None:
            return seconds >= _NOTHING_LOST_SECONDS
        taken_up = any(lease.job_id == member.had_job_id for lease in self._leases)
        return taken_up or seconds >= _NOT_TAKEN_UP_SECONDS

    def _look(self, scheduler: Scheduler) -> int:
        """Check the ledger and the leases, each on one snapshot; returns how many jobs have ended."""
        with scheduler.database.read() as conn:
            self._leases = conn.execute(select(s.leases)).all()
            strangers = conn.execute(_STRANGERS).scalar_one()
            ended = conn.execute(select(func.count()).where(s.job_states.c.finished_at.is_not(None))).scalar_one()
        self._counts["looks"] += 1
        for gpu_id in world.GPU_IDS:
            reserved = [lease.reserved_bytes for lease in self._leases if lease.gpu_id == gpu_id]
            self._most_leases = max(self._most_leases, len(reserved))
            if sum(reserved) > (most := world.most_leased_bytes(world.gpu(gpu_id))):
                self._violations.append(f"{gpu_id} has promised {reserved} of {most} bytes")
        if strangers:
            self._violations.append(f"{strangers} jobs run without a lease of theirs, or leases without a job")
        return ended

    def _end(self, scheduler: Scheduler) -> None:
        """End every process, give every worker up, and let the reaper go round once more."""
        self._violations += self._crew.end()
        for worker_id in self._crew.worker_ids:
            scheduler.fleet.worker_gone(worker_id)
        scheduler.reaper.run_once()


# Running jobs and open leases that have no counterpart with the same fence: always none.
_STRANGERS = text(
    """
    SELECT (SELECT count(*) FROM job_states j WHERE j.status = 'running'
             AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.job_id = j.job_id AND l.lease = j.lease))
         + (SELECT count(*) FROM leases l
             WHERE NOT EXISTS (SELECT 1 FROM job_states j
                                WHERE j.job_id = l.job_id AND j.lease = l.lease AND j.status = 'running'))
    """
)
