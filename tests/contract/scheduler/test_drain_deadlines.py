"""What a drain's deadline does to jobs that still run, and a drain that ends by itself."""

from typing import Any

import pytest

from scheduler.errors import LeaseLost
from scheduler.records import Gpu, Lease
from scheduler.service import Scheduler
from scheduler.states import Directive, DrainMode, GpuState, JobStatus, OnDeadline, Outcome
from tests.support.databases import Clock
from tests.support.fleet import HALF_WAY, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    return gpu


@pytest.fixture
def lease(gpu: RegisteredGpu) -> Lease:
    return gpu.must_claim()


def drain(scheduler: Scheduler, **options: Any) -> Gpu:
    return scheduler.fleet.drain("GPU-0", "maintenance", "alice", **options)


def pass_time(scheduler: Scheduler, clock: Clock, seconds: float, lease: Lease | None = None) -> list[str]:
    """Let time pass in steps in which everybody is heard and the reaper works; returns the GPUs it found overdue."""
    overdue: list[str] = []
    while seconds > 0:
        clock.advance(min(5.0, seconds))
        seconds -= 5.0
        if lease is not None:
            scheduler.leases.report(lease, HALF_WAY)
        overdue += scheduler.reaper.run_once().overdue_gpus
    return overdue


def vital_signs(scheduler: Scheduler, gpu: RegisteredGpu) -> str | None:
    return scheduler.fleet.look_at_worker("GPU-0", gpu.workers[0]).condemned


def test_at_the_deadline_jobs_are_asked_for(scheduler: Scheduler, lease: Lease, clock: Clock) -> None:
    drain(scheduler, deadline_seconds=60)
    assert pass_time(scheduler, clock, 59, lease) == []
    assert scheduler.leases.directive(lease) is Directive.CONTINUE

    assert pass_time(scheduler, clock, 1, lease) == ["GPU-0"]

    assert scheduler.leases.directive(lease) is Directive.RELEASE
    assert scheduler.reaper.run_once().overdue_gpus == [], "once is enough"
    scheduler.leases.release(lease)
    assert scheduler.queue.get(lease.job_id).attempts == 0
    *_, asked, passed = scheduler.events.read(subject="GPU-0")
    assert (asked.type, passed.type) == ("gpu.draining", "gpu.draining")
    assert passed.data["passed"] is True


def test_at_the_deadline_jobs_are_taken_back_and_their_process_condemned(
    scheduler: Scheduler, gpu: RegisteredGpu, lease: Lease, clock: Clock
) -> None:
    drain(scheduler, deadline_seconds=60, on_deadline=OnDeadline.KILL)
    pass_time(scheduler, clock, 59, lease)
    assert vital_signs(scheduler, gpu) is None

    assert pass_time(scheduler, clock, 1) == ["GPU-0"]

    job = scheduler.queue.get(lease.job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    assert [attempt.outcome for attempt in scheduler.queue.attempts(job.id)] == [Outcome.RELEASED]
    with pytest.raises(LeaseLost):
        scheduler.leases.succeed(lease, RESULT, MEASURED)
    assert vital_signs(scheduler, gpu) == "the deadline of the drain has passed (maintenance)"
    assert scheduler.fleet.gpu("GPU-0").state is GpuState.DRAINING, "its process still lives"
    scheduler.fleet.worker_gone(gpu.workers[0])
    assert scheduler.fleet.gpu("GPU-0").state is GpuState.DRAINED


def test_a_job_that_ends_in_time_is_left_alone(
    scheduler: Scheduler, gpu: RegisteredGpu, lease: Lease, clock: Clock
) -> None:
    drain(scheduler, deadline_seconds=60, on_deadline=OnDeadline.KILL)
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    scheduler.fleet.worker_gone(gpu.workers[0])

    assert pass_time(scheduler, clock, 65) == []

    assert scheduler.fleet.gpu("GPU-0").state is GpuState.DRAINED
    assert scheduler.queue.get(lease.job_id).status is JobStatus.SUCCEEDED


def test_a_resume_before_the_deadline_calls_it_off(scheduler: Scheduler, lease: Lease, clock: Clock) -> None:
    drain(scheduler, deadline_seconds=10, on_deadline=OnDeadline.KILL)
    scheduler.fleet.resume("GPU-0", "bob")

    assert pass_time(scheduler, clock, 30, lease) == []

    assert scheduler.leases.directive(lease) is Directive.CONTINUE


def test_a_later_order_moves_the_deadline(scheduler: Scheduler, lease: Lease, clock: Clock) -> None:
    drain(scheduler, deadline_seconds=10)
    clock.advance(5)
    drain(scheduler, deadline_seconds=60)

    assert pass_time(scheduler, clock, 50, lease) == []
    assert pass_time(scheduler, clock, 10, lease) == ["GPU-0"]


@pytest.mark.parametrize("mode", DrainMode)
def test_a_drain_ends_by_itself(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, mode: DrainMode) -> None:
    drain(scheduler, mode=mode, resume_after_seconds=60)
    scheduler.fleet.worker_gone(gpu.workers[0])
    clock.advance(59)
    assert scheduler.reaper.run_once().resumed_gpus == []
    clock.advance(1)

    assert scheduler.reaper.run_once().resumed_gpus == ["GPU-0"]

    resumed = scheduler.fleet.gpu("GPU-0")
    assert (resumed.state, resumed.reason, resumed.drain) == (GpuState.ACTIVE, None, None)
    assert resumed.actor == "drain of alice: resume_after"
    last = scheduler.events.read(subject="GPU-0")[-1]
    assert (last.type, last.actor) == ("gpu.active", "drain of alice: resume_after")
    gpu.add_worker()
    assert gpu.claim(worker=1) is not None
    clock.advance(120)
    assert scheduler.reaper.run_once().resumed_gpus == []


def test_a_fault_does_not_end_by_itself(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    scheduler.fleet.fault("GPU-0", "Xid 79")
    clock.advance(40 * 86_400)

    assert scheduler.reaper.run_once().resumed_gpus == []

    assert scheduler.fleet.gpu("GPU-0").state is GpuState.FAULTED
