"""The GPUs and their workers: registration, samples, drain and resume."""

from collections.abc import Iterable

from scheduler.errors import NotFound
from scheduler.leases import Leases
from scheduler.params import check_text
from scheduler.policy import Policy
from scheduler.records import Gpu, GpuInfo, GpuSample, ServedModel, Worker
from scheduler.states import GpuState
from scheduler.store import machines
from scheduler.store.database import Database
from scheduler.wakeup import JOBS_WAITING, Wakeup

REASON_MAX_CHARS = 500


class Fleet:
    """All GPUs of the installation. Thread-safe; what one method writes about one GPU or worker is one transaction."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup, leases: Leases) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup
        self._leases = leases

    def register(self, model: ServedModel, gpus: Iterable[GpuInfo]) -> None:
        """Register one host's model and GPUs together; the state of a known GPU (a drain) is kept."""
        with self._database.write() as conn:
            now = self._database.now(conn)
            machines.upsert_model(conn, model, now)
            for info in gpus:
                machines.upsert_gpu(conn, info, now)

    def sample(self, gpu_id: str, look: GpuSample) -> None:
        """Record the latest look at a GPU, which also shows that its supervisor lives."""
        with self._database.write() as conn:
            machines.sample(conn, gpu_id, look, self._database.now(conn))

    def register_worker(self, worker: Worker) -> None:
        """Register a worker process, or update its readiness and resident bytes."""
        with self._database.write() as conn:
            machines.lock_gpu(conn, worker.gpu_id)  # or a drain could settle while this commits
            now = self._database.now(conn)
            machines.upsert_worker(conn, worker, now)
            machines.reopen_drain(conn, worker.gpu_id, now)
        self._wakeup.notify(JOBS_WAITING)

    def touch_worker(self, worker_id: str) -> bool:
        """Record a sign of life; False when the worker was given up meanwhile and must register again."""
        with self._database.write() as conn:
            return machines.touch_worker(conn, worker_id, self._database.now(conn))

    def worker_gone(self, worker_id: str) -> list[str]:
        """Take back the jobs of a process that has ended, forget it, and settle drains; returns the jobs' ids."""
        jobs = self._leases.expire_worker(worker_id)
        with self._database.write() as conn:
            machines.delete_worker(conn, worker_id)
            machines.settle_drains(conn, self._database.now(conn))
        self._wakeup.notify(JOBS_WAITING)
        return jobs

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

    def settle_drains(self) -> list[str]:
        """Call each draining GPU that is empty drained; returns their ids. The reaper's call."""
        with self._database.write() as conn:
            return machines.settle_drains(conn, self._database.now(conn))

    def gpus(self) -> list[Gpu]:
        """Return every GPU ever registered, by id."""
        with self._database.read() as conn:
            return machines.gpus(conn, online_since=self._database.now(conn) - self._policy.worker_ttl_seconds)

    def gpu(self, gpu_id: str) -> Gpu:
        """Return one GPU; raises `NotFound`."""
        found = [gpu for gpu in self.gpus() if gpu.info.id == gpu_id]
        if not found:
            raise NotFound(f"no GPU {gpu_id[:80]}")
        return found[0]

    def drain(self, gpu_id: str, reason: str, actor: str) -> Gpu:
        """Give a GPU no new jobs; it is `drained` once its running jobs have ended and its process is gone.

        Asking again only replaces the reason. Raises `NotFound`, or `InvalidParameter` without a reason.
        """
        reason = reason.strip()
        check_text("reason", reason, required=True, max_chars=REASON_MAX_CHARS)
        with self._database.write() as conn:
            now = self._database.now(conn)
            gpu = machines.lock_gpu(conn, gpu_id)
            if gpu.state in (GpuState.DRAINING, GpuState.DRAINED):
                machines.set_state(conn, gpu_id, GpuState(gpu.state), reason, actor, gpu.state_changed_at)
            else:
                machines.set_state(conn, gpu_id, GpuState.DRAINING, reason, actor, now)
            machines.settle_drains(conn, now)
        self._wakeup.notify(JOBS_WAITING)
        return self.gpu(gpu_id)

    def resume(self, gpu_id: str, actor: str) -> Gpu:
        """Make a GPU `active` again, whatever took it out; raises `NotFound`."""
        with self._database.write() as conn:
            gpu = machines.lock_gpu(conn, gpu_id)
            if gpu.state != GpuState.ACTIVE:
                machines.set_state(conn, gpu_id, GpuState.ACTIVE, None, actor, self._database.now(conn))
        self._wakeup.notify(JOBS_WAITING)
        return self.gpu(gpu_id)

    def fault(self, gpu_id: str, reason: str) -> None:
        """Take an active GPU out of service because it, or its worker, keeps failing."""
        with self._database.write() as conn:
            gpu = machines.lock_gpu(conn, gpu_id)
            if gpu.state == GpuState.ACTIVE:
                now = self._database.now(conn)
                machines.set_state(conn, gpu_id, GpuState.FAULTED, reason[:REASON_MAX_CHARS], "supervisor", now)
