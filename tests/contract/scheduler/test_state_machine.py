"""Any sequence of calls, beside a plain model of what they must do (SQLite, hypothesis chooses the calls)."""

import itertools
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from scheduler.errors import LeaseLost
from scheduler.policy import Policy
from scheduler.reaper import Reaper
from scheduler.records import Lease
from scheduler.states import GpuState, JobStatus
from scheduler.store.database import sqlite_url
from tests.support.databases import Clock
from tests.support.fleet import (
    ERROR,
    GIB,
    HALF_WAY,
    MEASURED,
    RESULT,
    RegisteredGpu,
    demand_bytes,
    new_job,
    open_scheduler,
    register_gpu,
)
from tests.support.queue_model import ModelGpu, ModelJob, ModelWorker, QueueModel

POLICY = Policy(max_attempts=2)
SIZES = ({"width": 256, "height": 256}, {"width": 512, "height": 512}, {"width": 768, "height": 768})
RESIDENT = 6 * GIB

gpus = st.integers(0, 1)
indices = st.integers(0, 5)
endings = st.sampled_from(["succeed", "fail", "retry", "retry", "release", "cancelled"])
# Each call with how often it should come, and its arguments. They are one rule, not one each: hypothesis leaves
# rules out at random, and without submit and claim the others have nothing to work on.
CALLS: dict[str, tuple[int, dict[str, st.SearchStrategy[Any]]]] = {
    "submit": (4, {"size": st.sampled_from(SIZES), "priority": st.sampled_from([0.5, 1.0, 4.0])}),
    "claim": (10, {"gpu": gpus, "index": indices, "free_gib": st.sampled_from([0, 2, 6, 24, 24, 24])}),
    "report": (3, {"index": indices}),
    "end": (5, {"index": indices, "how": endings}),
    "cancel": (2, {"index": indices}),
    "advance": (3, {"seconds": st.sampled_from([0.6, 0.6, 5.0, 10.5])}),
    "reap": (2, {}),
    "worker_gone": (1, {"gpu": gpus, "index": indices}),
    "add_worker": (4, {"gpu": gpus}),
    "drain_or_resume": (2, {"gpu": gpus, "drain": st.sampled_from([True, False, False])}),
}


class QueueMachine(RuleBasedStateMachine):
    """Each step makes one call on the scheduler and on the model, and compares what they return."""

    def __init__(self, template: Path, folder: Path, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.stack = ExitStack()
        path = Path(shutil.copy(template, folder / "machine.db"))
        self.scheduler = self.stack.enter_context(open_scheduler(sqlite_url(path), folder, POLICY))
        self.model = QueueModel(POLICY)
        self.leases: list[Lease] = []
        self.gpus: list[RegisteredGpu] = []
        for gpu_id, gib in (("GPU-0", 14), ("GPU-1", 18)):
            self.gpus.append(register_gpu(self.scheduler, gpu_id, workers=0, total_bytes=gib * GIB))
            self.model.gpus[gpu_id] = ModelGpu(gpu_id, (gib - 1) * GIB)
            self.add_worker(len(self.gpus) - 1)

    def teardown(self) -> None:
        self.stack.close()

    @rule(name=st.sampled_from([name for name, (times, _) in CALLS.items() for _ in range(times)]), data=st.data())
    def call(self, name: str, data: st.DataObject) -> None:
        arguments = {key: data.draw(values, key) for key, values in CALLS[name][1].items()}
        if name in ("report", "end") and not self.leases:
            name, arguments = "submit", {"size": SIZES[1], "priority": 1.0}
        getattr(self, name)(**arguments)

    def submit(self, size: dict[str, int], priority: float) -> None:
        job = self.scheduler.queue.submit(new_job(priority=priority, **size)).job
        self.model.jobs[job.id] = ModelJob(job.id, job.rank, demand_bytes(job), self.clock.seconds)

    def claim(self, gpu: int, index: int, free_gib: int) -> None:
        workers = self.gpus[gpu].workers
        worker_id = workers[-1 - index % len(workers) if index < 4 else 0]
        expected = self.model.best(worker_id, free_gib * GIB, self.clock.seconds)

        lease = self.scheduler.queue.claim(worker_id, self.gpus[gpu].info.id, free_gib * GIB)

        assert (lease and lease.job_id) == (expected and expected.id)
        if lease is not None and expected is not None:
            self.model.claimed(expected, lease, self.clock.seconds)
            assert (lease.fence, lease.attempt) == (expected.fence, expected.attempts)
            self.leases.append(lease)

    def report(self, index: int) -> None:
        lease, job = self.pick(index)
        if not self.model.holds(lease):
            with pytest.raises(LeaseLost):
                self.scheduler.leases.report(lease, HALF_WAY)
            return
        assert self.scheduler.leases.report(lease, HALF_WAY) is job.cancel_requested
        job.expires_at = self.clock.seconds + POLICY.lease_seconds
        self.model.workers[lease.worker_id].seen_at = self.clock.seconds

    def end(self, index: int, how: str) -> None:
        lease, job = self.pick(index)
        arguments: dict[str, tuple[Any, ...]] = {"succeed": (RESULT, MEASURED), "fail": (ERROR,), "retry": (ERROR,)}
        call = getattr(self.scheduler.leases, how)
        if not self.model.holds(lease):
            with pytest.raises(LeaseLost):
                call(lease, *arguments.get(how, ()))
            return
        answer = call(lease, *arguments.get(how, ()))
        if how == "retry":
            assert answer is self.model.give_back(job)
            self.learn_backoff(job)
            return
        if how == "release":
            job.attempts -= 0 if job.cancel_requested else 1
        ends = {"succeed": JobStatus.SUCCEEDED, "fail": JobStatus.FAILED, "release": JobStatus.QUEUED}
        expected = self.model.end(job, ends.get(how, JobStatus.CANCELLED))
        job.not_before = self.clock.seconds
        assert answer in (expected, None)

    def cancel(self, index: int) -> None:
        if not self.model.jobs:
            return
        job = list(self.model.jobs.values())[-1 - index % len(self.model.jobs)]
        self.scheduler.queue.cancel(job.id)
        if job.status is JobStatus.QUEUED:
            job.status = JobStatus.CANCELLED
        elif job.status is JobStatus.RUNNING:
            job.cancel_requested = True

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def reap(self) -> None:
        now = self.clock.seconds
        overdue = [job for job in self.model.running() if job.expires_at < now]
        silent = [
            worker.id for worker in self.model.workers.values() if worker.seen_at < now - POLICY.worker_ttl_seconds
        ]

        opened = self.scheduler  # a reaper of its own each time: one that had paused would be patient
        reaped = Reaper(opened.database, POLICY, opened.queue, opened.leases, opened.fleet).run_once()

        assert sorted(reaped.expired_jobs) == sorted(job.id for job in overdue)
        assert sorted(reaped.silent_workers) == sorted(silent)
        assert reaped.refused_jobs == []
        for job in overdue:
            self.model.give_back(job)
        for worker_id in silent:
            del self.model.workers[worker_id]  # its leases run out by themselves
        for job in overdue:
            self.learn_backoff(job)
        self.model.settle_drains()

    def worker_gone(self, gpu: int, index: int) -> None:
        workers = self.gpus[gpu].workers
        worker_id = workers[index % len(workers)]
        lost = self.model.worker_gone(worker_id)
        assert sorted(self.scheduler.fleet.worker_gone(worker_id)) == sorted(job.id for job in lost)
        for job in lost:
            self.learn_backoff(job)

    def add_worker(self, gpu: int) -> None:
        gpu_id = self.gpus[gpu].info.id
        if self.model.committed_bytes(gpu_id) + RESIDENT > self.model.gpus[gpu_id].usable_bytes:
            return  # as its supervisor would see
        worker_id = self.gpus[gpu].add_worker(RESIDENT)
        self.model.workers[worker_id] = ModelWorker(worker_id, gpu_id, RESIDENT, self.clock.seconds)
        if self.model.gpus[gpu_id].state is GpuState.DRAINED:
            self.model.gpus[gpu_id].state = GpuState.DRAINING

    def drain_or_resume(self, gpu: int, drain: bool) -> None:
        model = self.model.gpus[self.gpus[gpu].info.id]
        if drain:
            self.scheduler.fleet.drain(model.id, "maintenance", "alice")
            model.state = model.state if model.state is GpuState.DRAINED else GpuState.DRAINING
            self.model.settle_drains()
        else:
            self.scheduler.fleet.resume(model.id, "alice")
            model.state = GpuState.ACTIVE

    @invariant()
    def the_store_agrees(self) -> None:
        jobs = {job.id: job for job in self.scheduler.queue.list_jobs(limit=1000)}
        assert jobs.keys() == self.model.jobs.keys(), "a job is lost"
        for job in self.model.jobs.values():
            seen = jobs[job.id]
            assert (seen.status, seen.attempts, seen.cancel_requested) == (
                job.status,
                job.attempts,
                job.cancel_requested,
            )
            assert (seen.result is not None) is (job.status is JobStatus.SUCCEEDED)

    @invariant()
    def no_byte_is_promised_twice(self) -> None:
        leased: list[tuple[str, int]] = []
        for gpu in self.scheduler.fleet.gpus():
            assert gpu.state is self.model.gpus[gpu.info.id].state
            assert gpu.reserved_bytes == self.model.committed_bytes(gpu.info.id)
            assert gpu.reserved_bytes <= gpu.info.total_bytes - gpu.info.headroom_bytes
            leased += [(lease.job_id, lease.fence) for lease in gpu.leases]
        assert sorted(leased) == sorted((job.id, job.fence) for job in self.model.running())

    def pick(self, index: int) -> tuple[Lease, ModelJob]:
        """Return a lease with its job: mostly one that is held, sometimes one that another has taken over."""
        held = [lease for lease in self.leases if self.model.holds(lease)]
        running = {lease.job_id for lease in held}
        stale = [lease for lease in self.leases if lease.job_id in running and lease not in held]
        leases = (held if index < 4 else stale) or self.leases
        lease = leases[-1 - index % len(leases)]
        return lease, self.model.jobs[lease.job_id]

    def learn_backoff(self, job: ModelJob) -> None:
        """Check the drawn wait of a job that went back to the queue, and remember it."""
        if job.status is not JobStatus.QUEUED:
            return
        job.not_before = self.scheduler.queue.get(job.id).not_before
        full = POLICY.retry_base_seconds * 2 ** (job.attempts - 1)
        assert full / 2 <= job.not_before - self.clock.seconds <= full


def test_any_sequence_of_calls_does_what_the_model_does(sqlite_template: Path, data_dir: Path, clock: Clock) -> None:
    numbers = itertools.count()

    def machine() -> QueueMachine:
        folder = data_dir / str(next(numbers))
        folder.mkdir()
        return QueueMachine(sqlite_template, folder, clock)

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            phases=[Phase.generate],  # to shrink a failure would take minutes; its calls are printed as they are
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
