"""The queue: submit, look, cancel, claim.

A route calls `submit`; a worker calls `claim` with what its GPU has free; `placement` decides what fits; the store
makes one guarded transition. What a worker does with its lease afterwards is in `leases`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete

from scheduler import catalog, placement, rank
from scheduler.errors import IdempotencyMismatch, InvalidState, NoModel, QueueFull
from scheduler.explain import QueueInfo, explain
from scheduler.params import VideoParams
from scheduler.placement import Offer
from scheduler.policy import Policy
from scheduler.records import Attempt, Gpu, Job, JobError, Lease, NewJob, ServedModel
from scheduler.states import GpuState, JobStatus
from scheduler.store import claims, machines, reads, submission, transitions
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.wakeup import JOBS_WAITING, Wakeup, job_topic


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job, and whether this call made it (False: the idempotency key had made it before)."""

    job: Job
    created: bool


class Queue:
    """The durable queue as callers and claiming workers see it. Thread-safe; each method is one transaction."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup

    def submit(self, new: NewJob) -> Submitted:
        """Commit `new` to the queue, or return the job its idempotency key made before.

        Raises `IdempotencyMismatch`, `QueueFull`, `NoModel`, `Unschedulable` or `StorageFull`; nothing is
        stored then.
        """
        with self._database.write() as conn:
            if new.idempotency_key is not None:
                known = submission.known_key(conn, new.tenant, new.idempotency_key)
                if known is not None:
                    if known.payload_sha256 != new.payload_sha256:
                        raise IdempotencyMismatch("Idempotency-Key was used before with another payload")
                    return Submitted(reads.job(conn, known.job_id), created=False)
            self._refuse_if_full(conn)
            now = self._database.now(conn)
            offers = self._quote(conn, new.model, new.params, now)
            best = placement.choose(offers, self._policy.memory_class_bytes).footprint
            job_weight = rank.weight(best.seconds, best.vram_bytes, new.priority)
            submission.insert_job(
                conn,
                new,
                best,
                weight=job_weight,
                rank=rank.rank(job_weight, now, self._policy.tau_seconds),
                memory_class=placement.memory_class(best.working_bytes, self._policy.memory_class_bytes),
                max_attempts=self._policy.max_attempts,
                now=now,
            )
            job = reads.job(conn, new.id)
        self._wakeup.notify(JOBS_WAITING)
        return Submitted(job, created=True)

    def claim(self, worker_id: str, gpu_id: str, free_bytes: int) -> Lease | None:
        """Lease the best job that fits to a worker, or None.

        `free_bytes` is what the GPU has free beyond what the worker itself holds. Drain check, ledger and
        reservation are one transaction on the GPU's locked row, so two claims can never promise the same bytes.
        """
        with self._database.write() as conn:
            gpu = machines.lock_gpu(conn, gpu_id)
            model = machines.ready_model(conn, worker_id, gpu_id)
            if gpu.state != GpuState.ACTIVE or model is None:
                return None
            committed = machines.committed_bytes(conn, gpu_id)
            free = placement.ledger_free_bytes(free_bytes, gpu.total_bytes, gpu.headroom_bytes, committed)
            now = self._database.now(conn)
            wanted = (model, gpu.plan, free // self._policy.memory_class_bytes)
            lease = self._take_best(conn, worker_id, gpu_id, wanted, now)
        if lease is not None:
            self._wakeup.notify(job_topic(lease.job_id))
        return lease

    def _take_best(
        self, conn: Connection, worker_id: str, gpu_id: str, wanted: tuple[str, str, int], now: float
    ) -> Lease | None:
        while (head := claims.best(conn, *wanted, now)) is not None:
            reserved = head.memory_class * self._policy.memory_class_bytes
            taken = transitions.claim(
                conn,
                head,
                gpu_id=gpu_id,
                worker_id=worker_id,
                reserved_bytes=reserved,
                expires_at=now + self._policy.lease_seconds,
                now=now,
            )
            if taken is not None:
                return Lease(
                    job_id=head.job_id,
                    fence=taken.lease,
                    worker_id=worker_id,
                    gpu_id=gpu_id,
                    reserved_bytes=reserved,
                    attempt=taken.attempts,
                    plan=head.plan,
                    model=head.model,
                    prompt=head.prompt,
                    params=VideoParams.from_dict(head.params),
                    image_key=head.image_key,
                )
        return None

    def get(self, job_id: str) -> Job:
        """Return a job; raises `NotFound`."""
        with self._database.read() as conn:
            return reads.job(conn, job_id)

    def list_jobs(self, *, status: JobStatus | None = None, before_id: str | None = None, limit: int = 20) -> list[Job]:
        """Return up to `limit` jobs, newest first, made before the job `before_id`."""
        with self._database.read() as conn:
            return reads.jobs(conn, status, before_id, limit)

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return a job's attempts, oldest first; empty for an unknown job."""
        with self._database.read() as conn:
            return reads.attempts(conn, job_id)

    def versions(self, job_ids: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return the current version of each of these jobs that exists."""
        with self._database.read() as conn:
            return reads.versions(conn, list(job_ids))

    def models(self) -> dict[str, ServedModel]:
        """Return the models that workers serve, newest first; raises `NoModel` while there is none."""
        with self._database.read() as conn:
            served = {id_: model for id_, model in reads.models(conn).items() if catalog.knows(model.architecture)}
        if not served:
            raise NoModel("no worker has registered a model yet")
        return served

    def explain(self, job: Job) -> QueueInfo | None:
        """Say where a queued job stands and why it waits; None unless it is queued."""
        return self.explain_all([job])[0]

    def explain_all(self, jobs: Sequence[Job]) -> list[QueueInfo | None]:
        """Do what `explain` does for several jobs, from one look at the fleet."""
        queued = [job for job in jobs if job.status is JobStatus.QUEUED]
        if not queued:
            return [None] * len(jobs)
        with self._database.read() as conn:
            now = self._database.now(conn)
            served, gpus = reads.models(conn), self._recent_gpus(conn, now)
            places = {job.id: self._explain(conn, job, served, gpus, now) for job in queued}
        return [places.get(job.id) for job in jobs]

    def _explain(
        self, conn: Connection, job: Job, served: Mapping[str, ServedModel], gpus: Sequence[Gpu], now: float
    ) -> QueueInfo:
        offers = _offers(served.get(job.model), gpus, job.params)
        same_plan = [offer for offer in offers if offer.footprint.plan == job.footprint.plan]
        return explain(job, same_plan, now, reads.ahead(conn, job), self._policy.memory_class_bytes)

    def quote(self, model: str, params: VideoParams) -> list[Offer]:
        """Return each GPU's footprint and capacity for such a job; raises `NoModel`."""
        with self._database.read() as conn:
            return self._quote(conn, model, params, self._database.now(conn))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once when queued, at the next step when running; an ended job stays as it is."""
        with self._database.write() as conn:
            now = self._database.now(conn)
            transitions.lock(conn, job_id)  # or a claim or release between the two would lose the cancel
            if not transitions.cancel_queued(conn, job_id, now):
                transitions.request_cancel(conn, job_id, now)
            job = reads.job(conn, job_id)
        self._wakeup.notify(job_topic(job_id))
        return job

    def delete(self, job_id: str) -> Job:
        """Forget an ended job and return it, so that its files can go too; raises `InvalidState` before its end."""
        with self._database.write() as conn:
            job = reads.job(conn, job_id)
            if not job.status.ended:
                raise InvalidState(f"job {job_id} is {job.status.value}: cancel it first")
            conn.execute(delete(s.jobs).where(s.jobs.c.id == job_id))
        return job

    def refuse(self, job_id: str, error: JobError) -> bool:
        """Fail a queued job that nothing could ever run; False when it is not queued any more."""
        with self._database.write() as conn:
            refused = transitions.refuse_queued(conn, job_id, error, self._database.now(conn))
        self._wakeup.notify(job_topic(job_id))
        return refused

    def _refuse_if_full(self, conn: Connection) -> None:
        count, seconds = submission.queued_up_to(conn, self._policy.max_queued)
        if count >= self._policy.max_queued:
            raise QueueFull(f"the queue is full: {count} jobs are waiting", retry_after_seconds=seconds / count)

    def _quote(self, conn: Connection, model: str, params: VideoParams, now: float) -> list[Offer]:
        offers = _offers(reads.models(conn).get(model), self._recent_gpus(conn, now), params)
        if not offers:
            raise NoModel(f"no GPU serves {model} at present")
        return offers

    def _recent_gpus(self, conn: Connection, now: float) -> list[Gpu]:
        """The fleet: a GPU that has been away for longer than the policy's memory no longer counts."""
        fleet = machines.gpus(conn, online_since=now - self._policy.worker_ttl_seconds)
        return [gpu for gpu in fleet if gpu.seen_at >= now - self._policy.gpu_memory_seconds]


def _offers(served: ServedModel | None, gpus: Iterable[Gpu], params: VideoParams) -> list[Offer]:
    """Each GPU that serves the model, with the footprint and the room there; none for a model not known here."""
    if served is None or not catalog.knows(served.architecture):
        return []
    return [_offer(gpu, served, params) for gpu in gpus if gpu.info.model == served.id]


def _offer(gpu: Gpu, served: ServedModel, params: VideoParams) -> Offer:
    architecture = catalog.architecture(served.architecture)
    need = architecture.footprint(params, plan=gpu.info.plan, kind=gpu.info.kind, weights_bytes=served.weights_bytes)
    return Offer(gpu, need, placement.capacity_bytes(gpu, served.id, need.model_bytes))
