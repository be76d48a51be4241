"""Preempting one running job: asked for at its next step, free of charge, and only while it runs."""

import pytest

from scheduler.errors import InvalidParameter, InvalidState, NotFound
from scheduler.ids import new_id
from scheduler.records import Checkpoint, Lease
from scheduler.service import Scheduler
from scheduler.states import Directive, JobStatus
from tests.support.databases import Clock
from tests.support.fleet import HALF_WAY, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    return gpu


def saved(lease: Lease) -> Checkpoint:
    return Checkpoint(f"jobs/{lease.job_id}/{lease.fence}/checkpoint", 25, "a" * 64, lease.plan, bytes=1000)


def test_the_worker_hears_of_it_and_the_job_goes_on_later(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    lease = gpu.must_claim()
    assert scheduler.leases.report(lease, HALF_WAY) is Directive.CONTINUE

    job = scheduler.control.preempt(lease.job_id, "alice", "a demo is about to start")

    assert job.status is JobStatus.RUNNING
    assert scheduler.leases.report(lease, HALF_WAY, saved(lease)) is Directive.RELEASE
    assert scheduler.leases.directive(lease) is Directive.RELEASE
    told = scheduler.events.read(subject=job.id)[-1]
    assert (told.type, told.actor, told.tenant) == ("job.preempted", "alice", "default")
    assert told.data == {"lease": 1, "reason": "a demo is about to start"}
    urgent = scheduler.queue.submit(new_job(priority=100.0)).job.id
    scheduler.leases.release(lease, checkpoint=saved(lease))
    first = gpu.must_claim()
    assert first.job_id == urgent, "what ranks higher goes first"
    waiting = scheduler.queue.get(job.id)
    assert (waiting.status, waiting.attempts, waiting.rank) == (JobStatus.QUEUED, 0, job.rank)
    scheduler.leases.succeed(first, RESULT, MEASURED)
    again = gpu.must_claim()
    assert (again.job_id, again.checkpoint) == (job.id, saved(lease))
    assert scheduler.leases.report(again, HALF_WAY) is Directive.CONTINUE


def test_asking_again_changes_nothing(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    lease = gpu.must_claim()
    scheduler.control.preempt(lease.job_id, "alice")
    clock.advance(5)
    scheduler.control.preempt(lease.job_id, "bob")

    types = [event.type for event in scheduler.events.read(subject=lease.job_id)]
    assert types.count("job.preempted") == 1


def test_a_cancel_goes_before_it(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    scheduler.control.preempt(lease.job_id, "alice")
    scheduler.queue.cancel(lease.job_id)

    assert scheduler.leases.report(lease, HALF_WAY) is Directive.CANCEL


def test_only_a_running_job_can_be_preempted(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    (job,) = scheduler.queue.list_jobs()
    with pytest.raises(InvalidState, match=f"{job.id} is queued: only a running job"):
        scheduler.control.preempt(job.id, "alice")
    lease = gpu.must_claim()
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    with pytest.raises(InvalidState, match="is succeeded"):
        scheduler.control.preempt(job.id, "alice")
    with pytest.raises(NotFound):
        scheduler.control.preempt(new_id("job"), "alice")


def test_a_reason_has_limits(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    with pytest.raises(InvalidParameter, match="reason"):
        scheduler.control.preempt(lease.job_id, "alice", "x" * 501)
    assert scheduler.leases.directive(lease) is Directive.CONTINUE


def test_other_jobs_of_the_gpu_go_on(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    gpu.add_worker()
    scheduler.queue.submit(new_job())
    first, second = gpu.must_claim(), gpu.must_claim(worker=1)
    scheduler.control.preempt(first.job_id, "alice")

    assert scheduler.leases.directive(first) is Directive.RELEASE
    assert scheduler.leases.directive(second) is Directive.CONTINUE
