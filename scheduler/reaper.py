"""The reaper: takes back what died, and ends what can never run. Any number may run at once."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select

from scheduler import catalog
from scheduler.errors import NoModel, NotFound
from scheduler.fleet import Fleet
from scheduler.leases import Leases
from scheduler.policy import Policy
from scheduler.queue import Queue
from scheduler.records import JobError
from scheduler.states import JobStatus
from scheduler.store import schema as s
from scheduler.store.database import Database

_BATCH = 100


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one round did: ids of jobs taken back, workers given up and jobs refused."""

    expired_jobs: list[str]
    silent_workers: list[str]
    refused_jobs: list[str]

    def __bool__(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.expired_jobs or self.silent_workers or self.refused_jobs)


class Reaper:
    """A small maintenance service: call `run_once` every second or so."""

    def __init__(self, database: Database, policy: Policy, queue: Queue, leases: Leases, fleet: Fleet) -> None:
        self._database = database
        self._policy = policy
        self._queue = queue
        self._leases = leases
        self._fleet = fleet

    def run_once(self) -> Reaped:
        """Do one round."""
        reaped = Reaped(
            expired_jobs=self._leases.expire_silent(),
            silent_workers=self._fleet.drop_silent_workers(),
            refused_jobs=self._refuse_unschedulable(),
        )
        self._fleet.settle_drains()
        return reaped

    def _refuse_unschedulable(self) -> list[str]:
        return [job_id for job_id in self._hopeless() if self._refuse_if_hopeless(job_id)]

    def _hopeless(self) -> list[str]:
        """Jobs that no GPU of the fleet has room for, past the grace in which one may still register."""
        states = s.job_states.c
        found: list[str] = []
        for model, plan, largest_class in self._room():
            with self._database.read() as conn:
                before = self._database.now(conn) - self._policy.unschedulable_grace_seconds
                query = select(states.job_id).where(
                    states.status == JobStatus.QUEUED,
                    states.model == model,
                    states.plan == plan,
                    states.memory_class > largest_class,
                    states.not_before < before,
                )
                found += conn.execute(query.limit(_BATCH)).scalars()
        return found

    def _room(self) -> Iterator[tuple[str, str, int]]:
        """Each served model and plan with the largest memory class that a GPU has room for; 0 where none runs it."""
        try:
            served = self._queue.models()
        except NoModel:
            return
        for model in served.values():
            architecture = catalog.architecture(model.architecture)
            try:
                offers = self._queue.quote(model.id, architecture.defaults)
            except NoModel:  # no GPU at all: its jobs wait for one
                continue
            for plan in architecture.demand:
                room = [offer.capacity_bytes for offer in offers if offer.footprint.plan == plan]
                yield model.id, plan, max([0, *room]) // self._policy.memory_class_bytes

    def _refuse_if_hopeless(self, job_id: str) -> bool:
        try:
            info = self._queue.explain(self._queue.get(job_id))
        except NotFound:  # deleted meanwhile
            return False
        if info is None or info.wait.code not in ("too_large", "no_gpu"):
            return False
        return self._queue.refuse(job_id, JobError("unschedulable", info.wait.message))
