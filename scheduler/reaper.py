"""The reaper: takes back what died, and ends what can never run. Any number may run at once."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from sqlalchemy import select

from scheduler import catalog
from scheduler.errors import NoModel, NotFound
from scheduler.fleet import Fleet
from scheduler.hangs import Vigil
from scheduler.leases import Leases
from scheduler.policy import Policy
from scheduler.queue import Queue
from scheduler.records import JobError
from scheduler.store import schema as s
from scheduler.store.database import Database

_BATCH = 100


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one round did, as ids: jobs taken back, workers given up, jobs refused, and what became of GPUs."""

    expired_jobs: list[str]
    silent_workers: list[str]
    refused_jobs: list[str]
    hung_jobs: list[str] = field(default_factory=list)  # taken back from workers that are heard but stuck
    unreserved_jobs: list[str] = field(default_factory=list)  # their reservation no longer made sense
    overdue_gpus: list[str] = field(default_factory=list)  # the deadline of their drain has passed
    drained_gpus: list[str] = field(default_factory=list)
    resumed_gpus: list[str] = field(default_factory=list)  # their drain was to last until now
    forgotten_gpus: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there was anything to do."""
        return any(getattr(self, one.name) for one in fields(self))

    def __str__(self) -> str:
        """What there was to do."""
        done = {one.name: getattr(self, one.name) for one in fields(self)}
        return ", ".join(f"{name}: {' '.join(ids)}" for name, ids in done.items() if ids)


class Reaper:
    """A small maintenance service: call `run_once` every second or so."""

    def __init__(self, database: Database, policy: Policy, queue: Queue, leases: Leases, fleet: Fleet) -> None:
        self._database = database
        self._policy = policy
        self._queue = queue
        self._leases = leases
        self._fleet = fleet
        self._started_at: float | None = None
        self._vigil = Vigil(policy.lease_seconds)
        self._hopeless_since: dict[str, float] = {}

    def run_once(self) -> Reaped:
        """Do one round.

        After a pause (the store was away, the machine slept) workers are given one lease time to be heard again, and a
        job hangs only by what this reaper has watched since; and nothing is refused or forgotten before it has run for
        the grace, in which a restarted fleet registers.
        """
        with self._database.read() as conn:
            now = self._database.now(conn)
        since = self._vigil.since(now)
        self._started_at = self._started_at if self._started_at is not None else now
        expire = since == self._started_at or now - since >= self._policy.lease_seconds
        refuse = now - self._started_at >= self._policy.unschedulable_grace_seconds
        upkeep = self._fleet.upkeep
        return Reaped(
            expired_jobs=self._leases.expire_silent() if expire else [],
            silent_workers=self._fleet.drop_silent_workers() if expire else [],
            refused_jobs=self._refuse_unschedulable(now) if refuse else [],
            hung_jobs=upkeep.give_up_hung_workers(since),
            unreserved_jobs=upkeep.drop_stale_reservations() if expire else [],
            overdue_gpus=upkeep.enforce_deadlines(),
            drained_gpus=upkeep.settle_drains(),
            resumed_gpus=upkeep.resume_due(),
            forgotten_gpus=upkeep.forget_lost_gpus() if expire and refuse else [],
        )

    def _refuse_unschedulable(self, now: float) -> list[str]:
        """Refuse what has been hopeless for longer than the dead may stand beside the living in the books.

        A worker that died with its supervisor holds its memory there until it counts as gone.
        """
        since = self._hopeless_since
        self._hopeless_since = {job_id: since.get(job_id, now) for job_id in self._hopeless()}
        lasting = [job_id for job_id, at in self._hopeless_since.items() if now - at > self._policy.worker_ttl_seconds]
        return [job_id for job_id in lasting if self._refuse_if_hopeless(job_id)]

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
                        s.READY,  # as the claim index says it: a parameter would not find that index
                        states.model == model,
                        states.plan == plan,
                        states.memory_class > largest_class,
                        s.jobs.c.created_at < before,
                    )
                    .order_by(states.memory_class, states.rank.desc(), states.job_id)  # the same ones at each round
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
