"""What falls due on GPUs and workers by itself: the reaper calls it, round after round, and any number may at once."""

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, Row

from scheduler import hangs
from scheduler.errors import NotFound
from scheduler.hangs import WORKER_HUNG
from scheduler.leases import Leases
from scheduler.policy import Policy
from scheduler.records import JobError
from scheduler.states import GpuState, OnDeadline
from scheduler.store import drains, eventlog, machines
from scheduler.store.database import Database
from scheduler.wakeup import JOBS_WAITING, Wakeup


class Upkeep:
    """The chores of a fleet. Each looks first; then it locks GPU after GPU, and writes what still holds."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup, leases: Leases) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup
        self._leases = leases

    def give_up_hung_workers(self, since: float) -> list[str]:
        """Take back jobs that hang, and give their workers no more; returns the jobs' ids.

        `since` is when the caller began to look without a break. A worker's own supervisor gets one lease time to do it
        first, because only there the process can be replaced as well: see `workers.slot`.
        """
        with self._database.read() as conn:
            now = self._database.now(conn)
            idle = machines.idle_stints(conn, now - self._policy.hang_seconds)
            beside = {each.worker_id: machines.vital_signs(conn, each.gpu_id, each.worker_id)[2] for each in idle}
        jobs: list[str] = []
        for stint in idle:
            grace = self._policy.lease_seconds
            why = hangs.why_hung(stint, self._policy, now, since, beside=beside[stint.worker_id], grace_seconds=grace)
            if why is not None:
                with self._database.write() as conn:  # first, or it could claim another job in between
                    machines.lock_gpu(conn, stint.gpu_id)
                    machines.condemn(conn, stint.gpu_id, why, worker_id=stint.worker_id)
                jobs += self._leases.expire_worker(stint.worker_id, JobError(WORKER_HUNG, why))
        return jobs

    def forget_lost_gpus(self) -> list[str]:
        """Forget active GPUs that have been away for longer than the policy remembers; returns their ids."""
        with self._database.read() as conn:
            before = self._database.now(conn) - self._policy.gpu_memory_seconds
            lost = machines.forgettable(conn, before)
        return self._each(lost, lambda conn, gpu, now: machines.forget(conn, gpu.id, before, now))

    def drop_stale_reservations(self) -> list[str]:
        """Drop reservations for jobs that do not wait any more, or on GPUs that take none; returns the jobs' ids."""
        with self._database.read() as conn:
            since = self._database.now(conn) - self._policy.worker_ttl_seconds
            if not machines.stale_reservations(conn, online_since=since):
                return []
        with self._database.write() as conn:
            dropped = machines.drop_stale_reservations(conn, online_since=since)
        self._wakeup.notify(JOBS_WAITING)
        return dropped

    def settle_drains(self) -> list[str]:
        """Call each draining GPU that is empty drained; returns their ids."""
        with self._database.read() as conn:
            empty = drains.empty(conn)
        return self._each(empty, lambda conn, gpu, now: drains.settle(conn, gpu.id, now))

    def enforce_deadlines(self) -> list[str]:
        """Act on drains that are past their deadline; returns the GPUs where something was left to do.

        Jobs are asked for; or, where the drain says kill, taken back without burning an attempt, and then their workers
        are condemned. Fenced first: nothing that the process writes until its supervisor kills it is accepted.
        """
        with self._database.read() as conn:
            late = drains.overdue(conn, self._database.now(conn))
            kill = [gpu_id for gpu_id, on_deadline in late if on_deadline is OnDeadline.KILL]
            doomed = [worker_id for gpu_id in kill for worker_id in machines.workers_of(conn, gpu_id)]
        for worker_id in doomed:
            self._leases.release_worker(worker_id)
        return self._each((gpu_id for gpu_id, _ in late), _enforce_deadline)

    def resume_due(self) -> list[str]:
        """Make GPUs active again whose drain was to last until now; returns their ids."""
        with self._database.read() as conn:
            due = drains.to_resume(conn, self._database.now(conn))
        return self._each(due, _resume)

    def _each(self, gpu_ids: Iterable[str], act: Callable[[Connection, Row[Any], float], bool]) -> list[str]:
        """Let `act` write about each GPU that still exists, in a transaction of its own; returns where it did."""
        done = []
        for gpu_id in gpu_ids:
            with self._database.write() as conn:
                try:
                    gpu = machines.lock_gpu(conn, gpu_id)
                except NotFound:
                    continue
                if act(conn, gpu, self._database.now(conn)):
                    done.append(gpu_id)
        if done:
            self._wakeup.notify(JOBS_WAITING)
        return done


def _enforce_deadline(conn: Connection, gpu: Row[Any], now: float) -> bool:
    drain = drains.current(conn, gpu.id)
    if gpu.state != GpuState.DRAINING or drain is None or drain.deadline_at is None or drain.deadline_at > now:
        return False
    if drain.on_deadline is OnDeadline.KILL:
        done = machines.condemn(conn, gpu.id, f"the deadline of the drain has passed ({gpu.reason})")
    else:
        done = drains.request_release(conn, gpu.id, now)
    if done:
        data = {
            "reason": gpu.reason,
            "deadline_at": drain.deadline_at,
            "on_deadline": drain.on_deadline,
            "passed": True,
        }
        eventlog.append(conn, "gpu.draining", gpu.id, now, actor=gpu.actor, data=data)
    return done > 0


def _resume(conn: Connection, gpu: Row[Any], now: float) -> bool:
    drain = drains.current(conn, gpu.id)
    if drain is None or drain.resume_at is None or drain.resume_at > now:
        return False
    drains.resume(conn, gpu, f"drain of {gpu.actor}: resume_after", now)
    return True
