"""Explaining queued jobs from one look at the database: the fleet, the line, and how long attempts take."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, bindparam, select

from scheduler import ids, outlook, placement, rank, windows
from scheduler.errors import NoModel
from scheduler.explain import QueueInfo, explain
from scheduler.footprints import Footprints, Predictor
from scheduler.line import Lines, Waiting
from scheduler.moment import Moment, quota_of
from scheduler.offers import offers
from scheduler.outlook import Pace
from scheduler.params import VideoParams
from scheduler.policy import Policy
from scheduler.records import Gpu, Job
from scheduler.remembered import Remembered
from scheduler.states import JobStatus, Window
from scheduler.store import gates, lines, reads
from scheduler.store import schema as s
from scheduler.store.database import Database

_CLOCK = select(s.tenants.c.share, s.tenants.c.virtual_at).where(s.tenants.c.id == bindparam("tenant"))
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
        queued = [Waiting.of(job) for job in jobs if job.status is JobStatus.QUEUED]
        if not queued:
            return [None] * len(jobs)
        predictor = self._footprints.current()
        with self._database.read() as conn:
            infos = self._explain(conn, queued, predictor)
        return [infos.get(job.id) for job in jobs]

    def outlook(
        self, model: str, params: VideoParams, priority: float, tenant: str, window: Window | None
    ) -> QueueInfo:
        """Explain the job that a submit would make now: under the plan, and at the place, that it would get.

        Raises `NoModel`, `Unschedulable` or `InvalidParameter`, as the submit would.
        """
        policy = self._policy
        predictor = self._footprints.current()
        with self._database.read() as conn:
            now = self._database.now(conn)
            offered = offers(reads.models(conn).get(model), self._fleet(conn, now), params, predictor)
            if not offered:
                raise NoModel(f"no GPU serves {model} at present")
            need = placement.choose(offered, policy.memory_class_bytes).offer.footprint
            ready_at = windows.earliest(policy.off_peak, window, now)
            own = conn.execute(_CLOCK, {"tenant": tenant}).one_or_none()
            virtual_at = max(ready_at, own.virtual_at) if own is not None and own.share is not None else ready_at
            _, place = rank.place(policy, need, priority=priority, virtual_at=virtual_at)
            asked = Waiting(
                ids.new_id("job"),  # behind its equals, as any new one
                tenant,
                model,
                params,
                need,
                placement.memory_class(need.working_bytes, policy.memory_class_bytes),
                place,
                not_before=ready_at if ready_at > now else 0.0,
                window=window,
            )
            return self._explain(conn, [asked], predictor)[asked.id]

    def _explain(self, conn: Connection, jobs: Sequence[Waiting], predictor: Predictor) -> dict[str, QueueInfo]:
        """Explain jobs by id; one that has been claimed meanwhile is left out."""
        present = lines.present(conn, self._database.clock)
        now = present.now
        jobs = [self._in_window(job, now) for job in jobs]
        until = max(now, *(job.not_before for job in jobs))
        deferred = lines.deferred(conn, until) if present.next_at is not None and present.next_at <= until else []
        served, gpus = reads.models(conn), self._fleet(conn, now)
        limited = gates.places(conn, {job.gate for job in jobs} - {""}, self._policy.tenant_limits.max_running)
        running = {lease.job_id for gpu in gpus for lease in gpu.leases}  # or one would wait behind itself
        by_line: dict[tuple[str, str], list[Waiting]] = defaultdict(list)
        for job in jobs:
            by_line[job.model, job.footprint.plan].append(job)
        infos: dict[str, QueueInfo] = {}
        for (model, plan), waiting in by_line.items():
            known = served.get(model)
            held = known.held if known is not None else None
            moment = Moment(now, present.pause, self._pace(conn, model, plan), held)
            standings = self._lines.standings(conn, model, _rivals(gpus, plan), waiting, now, deferred)
            for job, standing in zip(waiting, standings, strict=True):
                if job.id in running:
                    continue
                places = limited.get(job.gate)
                quota = quota_of(places.limit, places.running, gpus, moment) if places is not None else None
                offered = offers(known, gpus, job.params, predictor)
                infos[job.id] = explain(job, offered, standing, moment, self._policy, quota)
        return infos

    def _in_window(self, job: Waiting, now: float) -> Waiting:
        """The job as the next claim would put it off, if its window is closed and none has done it yet."""
        off_peak = self._policy.off_peak
        if job.window is None or off_peak is None:
            return job
        opens_at = off_peak.next_open(max(now, job.not_before))
        return replace(job, not_before=opens_at) if opens_at > now else job

    def _pace(self, conn: Connection, model: str, plan: str) -> Pace:
        return self._paces.get((model, plan), lambda: outlook.learn(lines.ratios(conn, model, plan, _ATTEMPTS)))


def _rivals(gpus: Sequence[Gpu], plan: str) -> set[str]:
    """The plans whose jobs the workers that run `plan` run too, itself included."""
    return {plan}.union(*(gpu.info.plans for gpu in gpus if plan in gpu.info.plans))
