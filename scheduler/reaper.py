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
        self._started_at: float | None = None
        self._last_round_at: float | None = None
        self._patient_until = 0.0

    def run_once(self) -> Reaped:
        """Do one round.

        After a pause (the store was away, the machine slept) workers are given one lease time to be heard again; and
        nothing is refused before this reaper has run for the grace, in which a restarted fleet registers.
        """
        with self._database.read() as conn:
            now = self._database.now(conn)
        self._started_at = self._started_at if self._started_at is not None else now
        if self._last_round_at is not None and now - self._last_round_at > self._policy.lease_seconds:
            self._patient_until = now + self._policy.lease_seconds
        self._last_round_at = now
        expire = now >= self._patient_until
        refuse = now - self._started_at >= self._policy.unschedulable_grace_seconds
        reaped = Reaped(
            expired_jobs=self._leases.expire_silent() if expire else [],
            silent_workers=self._fleet.drop_silent_workers() if expire else [],
            refused_jobs=self._refuse_unschedulable() if refuse else [],
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
                query = (
                    select(states.job_id)
                    .join(s.jobs, s.jobs.c.id == states.job_id)
                    .where(
                        states.status == JobStatus.QUEUED,
                        states.model == model,
                        states.plan == plan,
                        states.memory_class > largest_class,
                        s.jobs.c.created_at < before,
                    )
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
            except NoModel:  # its last GPU left longer ago than the policy remembers
                offers = []
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
