"""The GPUs and their workers: registration, samples, drain and resume."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row

from scheduler import drains, placement, samples
from scheduler.drains import REASON_MAX_CHARS, DrainOrder, DrainPreview
from scheduler.errors import NotFound
from scheduler.hangs import WorkerLook
from scheduler.leases import Leases
from scheduler.offers import loads
from scheduler.policy import Policy
from scheduler.records import Gpu, GpuInfo, GpuSample, ServedModel, Worker
from scheduler.states import DrainMode, GpuState, OnDeadline, Stage
from scheduler.store import checkpoints, eventlog, machines, reads
from scheduler.store import drains as drain_rows
from scheduler.store.database import Database
from scheduler.store.samples import standing
from scheduler.upkeep import Upkeep
from scheduler.wakeup import JOBS_WAITING, Wakeup


class Fleet:
    """All GPUs of the installation. Thread-safe; what one method writes about one GPU or worker is one transaction."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup, leases: Leases) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup
        self._leases = leases
        self.upkeep = Upkeep(database, policy, wakeup, leases)

    def register(self, model: ServedModel, gpus: Iterable[GpuInfo]) -> None:
        """Register one host's model and GPUs together; the state of a known GPU (a drain) is kept.

        Only one whose host was stopped for want of work is active again: it was started because there is some.
        """
        with self._database.write() as conn:
            now = self._database.now(conn)
            machines.upsert_model(conn, model, now)
            for info in sorted(gpus, key=lambda gpu: gpu.id):  # as all who lock several do
                machines.upsert_gpu(conn, info, now)
                drain_rows.welcome_back(conn, info.id, now)

    def sample(self, gpu_id: str, look: GpuSample) -> None:
        """Record a look at a GPU: as the latest, and in its samples. It also shows that its supervisor lives.

        Raises `NotFound` for a GPU that was forgotten meanwhile: it has to be registered again.
        """
        with self._database.write() as conn:
            now = self._database.now(conn)
            before = standing(conn, gpu_id)
            if before is None or not machines.sample(conn, gpu_id, look, now):
                raise NotFound(f"no GPU {gpu_id}")
            samples.record(conn, gpu_id, look, before, now, self._policy.worker_ttl_seconds)

    def register_worker(self, worker: Worker) -> None:
        """Register a worker process, or update its readiness and resident bytes; raises `NotFound`."""
        with self._database.write() as conn:
            gpu = machines.lock_gpu(conn, worker.gpu_id)  # or a drain could settle while this commits
            now = self._database.now(conn)
            self._resize(conn, gpu, worker)
            machines.upsert_worker(conn, worker, now)
            drain_rows.reopen(conn, gpu, now)
        self._wakeup.notify(JOBS_WAITING)

    def _resize(self, conn: Connection, gpu: Row[Any], worker: Worker) -> None:
        """Have a worker's open leases hold what they need beside what it holds from now on.

        A job under the plan that it has loaded now needs nothing for loading any more, and one that has not begun needs
        what it is going to load. One that has begun under another plan is done, and only not told of yet: nothing is
        added to it. Leases before workers, as a report does.
        """
        before = machines.worker(conn, worker.id)
        if before is None or (before.plan, before.resident_bytes) == (worker.plan, worker.resident_bytes):
            return
        served = {name: replace(model, held=None) for name, model in reads.models(conn).items()}
        sizes = loads(worker, served, gpu.plans)
        block = self._policy.memory_class_bytes
        for lease in machines.claimed_by(conn, worker.id, gpu.id):
            load = sizes.get((lease.model, lease.plan))
            if load is None:
                continue
            need = lease.memory_class * block
            loaded = (lease.model, lease.plan) == (worker.model, worker.plan)
            if loaded or lease.stage == Stage.LOADING:
                size = need + max(0, load)
            else:
                size = min(lease.reserved_bytes, placement.reserved_bytes(need, load, block))
            machines.reserve(conn, lease.job_id, size)

    def touch_worker(self, worker_id: str) -> bool:
        """Record a sign of life; False when the worker was given up meanwhile and must register again."""
        with self._database.write() as conn:
            return machines.touch_worker(conn, worker_id, self._database.now(conn))

    def worker_gone(self, worker_id: str) -> list[str]:
        """Take back the jobs of a process that has ended, forget it, and settle drains; returns the jobs' ids."""
        jobs = self._leases.expire_worker(worker_id)
        with self._database.write() as conn:
            machines.delete_worker(conn, worker_id)
        self.upkeep.settle_drains()
        self._wakeup.notify(JOBS_WAITING)
        return jobs

    def worker_worn(self, worker_id: str, gpu_id: str, reason: str) -> None:
        """Put on record that a worker process gives way to a new one, because it is no good any more."""
        with self._database.write() as conn:
            data = {"worker": worker_id, "reason": reason}
            eventlog.append(conn, "worker.worn", gpu_id, self._database.now(conn), data=data)

    def look_at_worker(self, gpu_id: str, worker_id: str) -> WorkerLook:
        """Return a worker's signs of life, for `hangs.WorkerWatch`; it only reads."""
        with self._database.read() as conn:
            seen_at, condemned, stints = machines.vital_signs(conn, gpu_id, worker_id)
            return WorkerLook(self._database.now(conn), seen_at, condemned, tuple(stints))

    def drop_silent_workers(self) -> list[str]:
        """Give up workers without a sign of life; returns their ids. Their leases run out by themselves."""
        with self._database.read() as conn:
            before = self._database.now(conn) - self._policy.worker_ttl_seconds
            silent = machines.silent_workers(conn, before)
        dropped = []
        for worker_id in silent:
            with self._database.write() as conn:
                if machines.delete_worker(conn, worker_id, seen_before=before):  # not heard since it was listed
                    dropped.append(worker_id)
        return dropped

    def gpus(self) -> list[Gpu]:
        """Return every GPU that is registered, by id."""
        return self._look()

    def gpu(self, gpu_id: str) -> Gpu:
        """Return one GPU; raises `NotFound`."""
        return self._some([gpu_id])[0]

    def drain(
        self,
        gpu_id: str,
        reason: str,
        actor: str,
        *,
        mode: DrainMode = DrainMode.FINISH,
        deadline_seconds: float | None = None,
        on_deadline: OnDeadline = OnDeadline.CHECKPOINT,
        resume_after_seconds: float | None = None,
    ) -> Gpu:
        """Give one GPU no new jobs, and empty it: see `drain_all`."""
        order = DrainOrder(reason, actor, mode, deadline_seconds, on_deadline, resume_after_seconds)
        return self.drain_all([gpu_id], order)[0]

    def drain_all(self, gpu_ids: Sequence[str], order: DrainOrder) -> list[Gpu]:
        """Give these GPUs no new jobs, and empty them: all in one transaction, or none.

        Each is `drained` once its running jobs have ended and its processes are gone. Mode `checkpoint`, and a deadline
        with it, asks for the jobs back at their next step; a deadline with `kill` takes them back and has their process
        killed. Either way no attempt is burned. Asking again replaces reason, mode, deadline and the time to resume,
        which count from then; a drained GPU stays drained, and a job that was asked for stays asked for.

        Raises `NotFound`, or `InvalidParameter` for a field outside its limit.
        """
        order = order.checked()
        with self._database.write() as conn:
            locked, now = machines.lock_gpus(conn, gpu_ids), self._database.now(conn)
            for gpu in locked:
                drain_rows.begin(conn, gpu, order, now)
                drain_rows.settle(conn, gpu.id, now)
        self._wakeup.notify(JOBS_WAITING)
        return self._some(gpu_ids)

    def drain_preview(self, gpu_ids: Sequence[str], order: DrainOrder) -> list[DrainPreview]:
        """Return what `drain_all` would do to each GPU and its jobs, and change nothing; raises what it raises."""
        order = order.checked()
        with self._database.read() as conn:
            now, saved_at = self._database.now(conn), checkpoints.saved_at(conn, gpu_ids)
        return [drains.preview(gpu, order, now, saved_at) for gpu in self._some(gpu_ids)]

    def resume(self, gpu_id: str, actor: str) -> Gpu:
        """Make a GPU `active` again, whatever took it out; raises `NotFound`."""
        return self.resume_all([gpu_id], actor)[0]

    def resume_all(self, gpu_ids: Sequence[str], actor: str) -> list[Gpu]:
        """Make these GPUs `active` again, all in one transaction or none; raises `NotFound`."""
        with self._database.write() as conn:
            locked, now = machines.lock_gpus(conn, gpu_ids), self._database.now(conn)
            for gpu in locked:
                if gpu.state != GpuState.ACTIVE:
                    drain_rows.resume(conn, gpu, actor, now)
        self._wakeup.notify(JOBS_WAITING)
        return self._some(gpu_ids)

    def fault(self, gpu_id: str, reason: str) -> None:
        """Take an active GPU out of service, until it is resumed, because it or its worker keeps failing."""
        with self._database.write() as conn:
            gpu = machines.lock_gpu(conn, gpu_id)
            if gpu.state == GpuState.ACTIVE:
                now = self._database.now(conn)
                drain_rows.fault(conn, gpu_id, reason[:REASON_MAX_CHARS], "supervisor", now)

    def _some(self, gpu_ids: Sequence[str]) -> list[Gpu]:
        """Return these GPUs, in this order; raises `NotFound`."""
        found = {gpu.info.id: gpu for gpu in self._look(gpu_ids)}
        for gpu_id in gpu_ids:
            if gpu_id not in found:
                raise NotFound(f"no GPU {gpu_id[:80]}")
        return [found[gpu_id] for gpu_id in gpu_ids]

    def _look(self, gpu_ids: Sequence[str] | None = None) -> list[Gpu]:
        with self._database.read() as conn:
            online_since = self._database.now(conn) - self._policy.worker_ttl_seconds
            return machines.gpus(conn, online_since=online_since, gpu_ids=gpu_ids)
