"""The reaper: takes back what died, gives jobs the plan they can run with, and ends what can never run.

Any number may run at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

from sqlalchemy import Select, select

from scheduler import catalog
from scheduler.errors import NoModel, NotFound
from scheduler.fleet import Fleet
from scheduler.hangs import Vigil
from scheduler.leases import Leases
from scheduler.plans import PLANS
from scheduler.policy import Policy
from scheduler.queue import Queue
from scheduler.records import JobError
from scheduler.store import gates
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.waits import Blocker

_BATCH = 100


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one round did, as ids: jobs taken back, workers given up, jobs refused, and what became of GPUs."""

    expired_jobs: list[str]
    silent_workers: list[str]
    refused_jobs: list[str]
    overdue_jobs: list[str] = field(default_factory=list)  # past their deadline: failed, or asked to stop
    hung_jobs: list[str] = field(default_factory=list)  # taken back from workers that are heard but stuck
    unreserved_jobs: list[str] = field(default_factory=list)  # their reservation no longer made sense
    overdue_gpus: list[str] = field(default_factory=list)  # the deadline of their drain has passed
    drained_gpus: list[str] = field(default_factory=list)
    resumed_gpus: list[str] = field(default_factory=list)  # their drain was to last until now
    forgotten_gpus: list[str] = field(default_factory=list)
    replanned_jobs: list[str] = field(default_factory=list)  # they go on with another plan

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
        expired = self._leases.expire_silent() if expire else []
        silent = self._fleet.drop_silent_workers() if expire else []
        refused, replanned = self._settle_unschedulable(now) if refuse else ([], [])
        return Reaped(
            expired_jobs=expired,
            silent_workers=silent,
            refused_jobs=refused,
            overdue_jobs=self._queue.enforce_deadlines(),
            hung_jobs=upkeep.give_up_hung_workers(since),
            unreserved_jobs=upkeep.drop_stale_reservations() if expire else [],
            overdue_gpus=upkeep.enforce_deadlines(),
            drained_gpus=upkeep.settle_drains(),
            resumed_gpus=upkeep.resume_due(),
            forgotten_gpus=upkeep.forget_lost_gpus() if expire and refuse else [],
            replanned_jobs=[*replanned, *(self._queue.feed_idle_workers() if expire else [])],
        )

    def _settle_unschedulable(self, now: float) -> tuple[list[str], list[str]]:
        """Refuse or replan what has been hopeless for longer than the dead may stand beside the living in the books.

        A worker that died with its supervisor holds its memory there until it counts as gone. Returns both as ids.
        """
        since = self._hopeless_since
        self._hopeless_since = {job_id: since.get(job_id, now) for job_id in self._hopeless()}
        lasting = [job_id for job_id, at in self._hopeless_since.items() if now - at > self._policy.worker_ttl_seconds]
        hopeless = {job_id: why for job_id in lasting if (why := self._why_hopeless(job_id)) is not None}
        replanned = [job_id for job_id in hopeless if self._queue.replan(job_id)]
        doomed = {job_id: why for job_id, why in hopeless.items() if job_id not in replanned}
        refused = [job_id for job_id, why in doomed.items() if self._queue.refuse(job_id, why)]
        return refused, replanned

    def _hopeless(self) -> list[str]:
        """Jobs that no GPU of the fleet has room for under their plan, past the grace in which one may register."""
        found: list[str] = []
        for model, plan, largest_class in self._room():
            with self._database.read() as conn:
                before = self._database.now(conn) - self._policy.unschedulable_grace_seconds
                for gate in gates.waiting(conn, model, plan, self._policy.tenant_limits.max_running):
                    if gate.largest_class > largest_class:
                        query = _larger(model, plan, gate.gate, largest_class).where(s.jobs.c.created_at < before)
                        found += conn.execute(query.limit(_BATCH)).scalars()
        return found

    def _room(self) -> Iterator[tuple[str, str, int]]:
        """Each served model and plan with the largest memory class that a GPU has room for; 0 where none runs it."""
        try:
            served = self._queue.models()
        except NoModel:
            return
        for model in served.values():
            any_params = replace(catalog.architecture(model.architecture).defaults, allow_int8=True)
            try:
                offers = self._queue.quote(model.id, any_params)
            except NoModel:  # its last GPU left longer ago than the policy remembers
                offers = []
            for plan in PLANS:
                room = [offer.capacity_bytes for offer in offers if offer.footprint.plan == plan]
                yield model.id, plan, max([0, *room]) // self._policy.memory_class_bytes

    def _why_hopeless(self, job_id: str) -> JobError | None:
        """The error that a job would be refused with; None for one that can run after all, or is gone."""
        try:
            info = self._queue.explain(self._queue.get(job_id))
        except NotFound:  # deleted meanwhile
            return None
        if info is None or info.wait.code not in (Blocker.TOO_LARGE, Blocker.NO_GPU):
            return None
        return JobError("unschedulable", info.wait.message)


def _larger(model: str, plan: str, gate: str, largest_class: int) -> Select[str]:
    """The ready jobs of a line behind one gate that are of larger classes, in the order of the claim index."""
    states = s.job_states.c
    return (
        select(states.job_id)
        .join(s.jobs, s.jobs.c.id == states.job_id)
        .where(
            s.READY,  # as the claim index says it: a parameter would not find that index
            states.model == model,
            states.plan == plan,
            states.gate == gate,
            states.memory_class > largest_class,
        )
        .order_by(states.memory_class, states.rank.desc(), states.job_id)  # the same ones at each round
    )
