"""Explaining queued jobs from one look at the database: the fleet, the line, and how long attempts take."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from scheduler import outlook
from scheduler.explain import Moment, QueueInfo, explain
from scheduler.footprints import Footprints
from scheduler.line import Lines
from scheduler.offers import offers
from scheduler.outlook import Pace
from scheduler.policy import Policy
from scheduler.records import Gpu, Job
from scheduler.remembered import Remembered
from scheduler.states import JobStatus
from scheduler.store import lines, reads
from scheduler.store.database import Database

_ATTEMPTS = 200  # how many of the last attempts make the pace
_PACE_SECONDS = 5.0  # the least time for which it is used

FleetOf = Callable[[Connection, float], Sequence[Gpu]]


class Explainer:
    """Says where queued jobs stand and why they wait; `fleet` returns the GPUs that count at a time. Thread-safe."""

    def __init__(self, database: Database, policy: Policy, footprints: Footprints, fleet: FleetOf) -> None:
        self._database = database
        self._policy = policy
        self._footprints = footprints
        self._fleet = fleet
        self._lines = Lines()
        self._paces: Remembered[tuple[str, str], Pace] = Remembered(_PACE_SECONDS)

    def explain(self, jobs: Sequence[Job]) -> list[QueueInfo | None]:
        """Explain each job that is queued, from one look; None for the others, and for one claimed meanwhile."""
        by_line: dict[tuple[str, str], list[Job]] = defaultdict(list)
        for job in jobs:
            if job.status is JobStatus.QUEUED:
                by_line[job.model, job.footprint.plan].append(job)
        if not by_line:
            return [None] * len(jobs)
        predictor = self._footprints.current()
        with self._database.read() as conn:
            present = lines.present(conn, self._database.clock)
            now = present.now
            until = max(now, *(job.not_before for line in by_line.values() for job in line))
            deferred = lines.deferred(conn, until) if present.next_at is not None and present.next_at <= until else []
            served, gpus = reads.models(conn), self._fleet(conn, now)
            running = {lease.job_id for gpu in gpus for lease in gpu.leases}  # or one would wait behind itself
            infos: dict[str, QueueInfo] = {}
            for (model, plan), waiting in by_line.items():
                known = served.get(model)
                held = known.held if known is not None else None
                moment = Moment(now, present.pause, self._pace(conn, model, plan), held)
                standings = self._lines.standings(conn, model, _rivals(gpus, plan), waiting, now, deferred)
                for job, standing in zip(waiting, standings, strict=True):
                    if job.id in running:
                        continue
                    offered = offers(known, gpus, job.params, predictor)
                    infos[job.id] = explain(job, offered, standing, moment, self._policy)
        return [infos.get(job.id) for job in jobs]

    def _pace(self, conn: Connection, model: str, plan: str) -> Pace:
        return self._paces.get((model, plan), lambda: outlook.learn(lines.ratios(conn, model, plan, _ATTEMPTS)))


def _rivals(gpus: Sequence[Gpu], plan: str) -> set[str]:
    """The plans whose jobs the workers that run `plan` run too, itself included."""
    return {plan}.union(*(gpu.info.plans for gpu in gpus if plan in gpu.info.plans))
