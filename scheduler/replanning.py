"""Giving a queued job another plan: because its own fits no GPU any more, or a worker has nothing else to do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from scheduler import placement, rank
from scheduler.errors import NotFound, Unschedulable
from scheduler.footprint import Footprint
from scheduler.footprints import Footprints, Predictor
from scheduler.offers import loads, offers
from scheduler.out_of_memory import OUT_OF_MEMORY
from scheduler.placement import gib
from scheduler.plans import PLANS, usable
from scheduler.policy import Policy
from scheduler.records import Gpu, Job, ServedModel
from scheduler.states import GpuState, JobStatus
from scheduler.store import gates, lines, reads, transitions
from scheduler.store.database import Database
from scheduler.store.gates import Gate
from scheduler.store.lines import Ready
from scheduler.wakeup import JOBS_WAITING, Wakeup, job_topic

_IN_LINE = 16  # so many of the first jobs are looked at for one that an idle worker could run
_ACTOR = "reaper"

FleetOf = Callable[[Connection, float], Sequence[Gpu]]


@dataclass(frozen=True, slots=True)
class _Idle:
    """A ready worker without a job, and what it could give one of each model and plan, in bytes."""

    gpu: Gpu
    budgets: Mapping[tuple[str, str], int]

    def holds(self, model: str, plan: str, need_bytes: int) -> bool:
        """Whether such a job could start here now."""
        return need_bytes <= self.budgets.get((model, plan), -1)


@dataclass(frozen=True, slots=True)
class _Move:
    """A job, what it needs under its next plan, and why it gets that."""

    job: Job
    need: Footprint
    reason: str


class Replanner:
    """Replans queued jobs; `fleet` returns the GPUs that count at a time. Thread-safe."""

    def __init__(
        self, database: Database, policy: Policy, wakeup: Wakeup, footprints: Footprints, fleet: FleetOf
    ) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup
        self._footprints = footprints
        self._fleet = fleet

    def replan(self, job_id: str) -> bool:
        """Give a queued job the fastest plan that fits the fleet now; False where there is none, or no such job."""
        predictor = self._footprints.current()
        with self._database.read() as conn:
            try:
                job = reads.job(conn, job_id)
            except NotFound:
                return False
            gpus = self._fleet(conn, self._database.now(conn))
            offered = offers(reads.models(conn).get(job.model), gpus, job.params, predictor)
            failed = _failed_plans(conn, job_id)
        left = [offer for offer in offered if offer.footprint.plan not in failed]
        if not left:
            return False
        try:
            choice = placement.choose(left, self._policy.memory_class_bytes)
        except Unschedulable:
            return False
        reason = f"{job.footprint.plan} fits the fleet no longer: {choice.reason}"
        return self._make(_Move(job, choice.offer.footprint, reason))

    def feed_idle_workers(self) -> list[str]:
        """For each ready worker that nothing queued fits, replan one of the first in line that would; returns the jobs.

        A job that another idle worker can take as it is is left to that one, and one whose tenant runs as many as it
        may is left alone; of a tenant with a limit at most one a call is replanned.
        """
        predictor = self._footprints.current()
        with self._database.read() as conn:
            present = lines.present(conn, self._database.clock)
            if present.pause is not None:
                return []
            served, gpus = reads.models(conn), self._fleet(conn, present.now)
            idle = [one for gpu in gpus for one in _idle(gpu, served)]
            moves = list(self._moves(conn, idle, served, predictor)) if idle else []
        return [move.job.id for move in moves if self._make(move)]

    def _moves(
        self, conn: Connection, idle: Sequence[_Idle], served: Mapping[str, ServedModel], predictor: Predictor
    ) -> Iterator[_Move]:
        block = self._policy.memory_class_bytes
        keys = {key for one in idle for key in one.budgets}
        needs = [(key, gate.smallest_class * block) for key in keys for gate in self._gates(conn, *key) if gate.is_open]
        hungry = [one for one in idle if not any(one.holds(*key, need) for key, need in needs)]
        line = self._line(conn, {model for one in hungry for model, _ in one.budgets})
        waiting = [
            job for job in line if not any(one.holds(job.model, job.footprint.plan, self._need(job)) for one in idle)
        ]
        for one in hungry:
            for job in waiting:
                need = self._fastest(conn, one, job, served, predictor)
                if need is not None:
                    waiting = [each for each in waiting if each is not job and not (job.gate and each.gate == job.gate)]
                    free = gib(max(0, one.gpu.sample.free_bytes or 0))
                    yield _Move(
                        job,
                        need,
                        f"GPU {one.gpu.info.id} was idle with {free} free: {need.plan} fits there now,"
                        f" {job.footprint.plan} does not",
                    )
                    break

    def _line(self, conn: Connection, models: set[str]) -> list[Job]:
        """The first ready jobs of these models that their tenants may start, of each in order, whatever their plans."""
        jobs = []
        for model in sorted(models):
            ready = [one for plan in PLANS for one in self._first(conn, model, plan)[:_IN_LINE]]
            ready.sort(key=lambda one: (-one.rank, one.job_id))
            jobs += [reads.job(conn, one.job_id) for one in ready[:_IN_LINE]]
        return jobs

    def _first(self, conn: Connection, model: str, plan: str) -> list[Ready]:
        closed = [gate.gate for gate in self._gates(conn, model, plan) if not gate.is_open]
        return lines.first_open(conn, model, plan, closed)

    def _gates(self, conn: Connection, model: str, plan: str) -> list[Gate]:
        return gates.waiting(conn, model, plan, self._policy.tenant_limits.max_running)

    def _fastest(
        self, conn: Connection, idle: _Idle, job: Job, served: Mapping[str, ServedModel], predictor: Predictor
    ) -> Footprint | None:
        """What a job needs under the fastest plan with which it could start on an idle worker now."""
        model, info, block = served.get(job.model), idle.gpu.info, self._policy.memory_class_bytes
        if model is None:
            return None
        failed = _failed_plans(conn, job.id)
        fitting = []
        for plan in usable(info.plans, allow_int8=job.params.allow_int8):
            if plan in failed or not _keeps_checkpoint(job, plan):
                continue
            need = predictor.predict(model, kind=info.kind, plan=plan, params=job.params)
            if idle.holds(job.model, plan, placement.memory_class(need.working_bytes, block) * block):
                fitting.append(need)
        return min(fitting, key=lambda need: need.seconds, default=None)

    def _make(self, move: _Move) -> bool:
        """Make the move if the job is still as it was."""
        job, need, policy = move.job, move.need, self._policy
        weight, place = rank.place(policy, need, priority=job.priority, virtual_at=job.virtual_at)
        memory_class = placement.memory_class(need.working_bytes, policy.memory_class_bytes)
        with self._database.write() as conn:
            transitions.lock(conn, job.id)
            if reads.versions(conn, [job.id]).get(job.id) != job.version or job.status is not JobStatus.QUEUED:
                return False
            made = transitions.replan(
                conn,
                job.id,
                need,
                memory_class,
                weight=weight,
                rank=place,
                reason=move.reason,
                actor=_ACTOR,
                now=self._database.now(conn),
            )
        self._wakeup.notify(job_topic(job.id))
        self._wakeup.notify(JOBS_WAITING)
        return made

    def _need(self, job: Job) -> int:
        return job.memory_class * self._policy.memory_class_bytes


def _idle(gpu: Gpu, served: Mapping[str, ServedModel]) -> Iterator[_Idle]:
    """The workers of a GPU that could start a job now; one that is kept for a job is not idle."""
    measured = gpu.sample.free_bytes
    if gpu.state is not GpuState.ACTIVE or not gpu.online or measured is None or gpu.reservation is not None:
        return
    info, busy = gpu.info, {lease.worker_id for lease in gpu.leases}
    free = placement.ledger_free_bytes(measured, info.total_bytes, info.headroom_bytes, gpu.reserved_bytes)
    for worker in gpu.workers:
        if worker.ready and worker.id not in busy:
            yield _Idle(gpu, {key: free - load for key, load in loads(worker, served, info.plans).items()})


def _failed_plans(conn: Connection, job_id: str) -> set[str]:
    """The plans under which a job has run out of memory."""
    tried = reads.attempts(conn, job_id)
    return {one.plan for one in tried if one.error is not None and one.error.code == OUT_OF_MEMORY}


def _keeps_checkpoint(job: Job, plan: str) -> bool:
    """Whether the steps that a job has behind it would not be lost."""
    own = PLANS.get(job.footprint.plan)
    return job.checkpoint_step is None or (own is not None and own.resumes == PLANS[plan].resumes)
