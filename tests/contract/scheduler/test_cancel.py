"""A cancel is final: at once for a queued job, at the next step for a running one, and even when its worker dies."""

from collections.abc import Callable

import pytest

from scheduler.records import Lease
from scheduler.service import Scheduler
from scheduler.states import Directive, JobStatus, Outcome
from tests.support.databases import Clock
from tests.support.fleet import ERROR, HALF_WAY, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu, snapshot


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    return gpu


def test_a_queued_job_is_cancelled_at_once(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    (job,) = scheduler.queue.list_jobs()

    cancelled = scheduler.queue.cancel(job.id)

    assert (cancelled.status, cancelled.finished_at) == (JobStatus.CANCELLED, clock.seconds)
    assert gpu.claim() is None
    assert scheduler.queue.attempts(job.id) == []


def test_a_running_job_hears_of_it_at_its_next_report(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()

    job = scheduler.queue.cancel(lease.job_id)

    assert (job.status, job.cancel_requested) == (JobStatus.RUNNING, True)
    assert scheduler.leases.report(lease, HALF_WAY) is Directive.CANCEL
    scheduler.leases.cancelled(lease)
    job = scheduler.queue.get(lease.job_id)
    assert (job.status, job.result, job.error) == (JobStatus.CANCELLED, None, None)
    assert [attempt.outcome for attempt in scheduler.queue.attempts(job.id)] == [Outcome.CANCELLED]


ENDINGS: dict[str, Callable[[Scheduler, Lease], object]] = {
    "succeed": lambda s, lease: s.leases.succeed(lease, RESULT, MEASURED),
    "release": lambda s, lease: s.leases.release(lease),
    "retry": lambda s, lease: s.leases.retry(lease, ERROR),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_cancel_in_time_wins(scheduler: Scheduler, gpu: RegisteredGpu, ending: str) -> None:
    lease = gpu.must_claim()
    scheduler.queue.cancel(lease.job_id)

    assert ENDINGS[ending](scheduler, lease) is JobStatus.CANCELLED

    job = scheduler.queue.get(lease.job_id)
    assert (job.status, job.result, job.error) == (JobStatus.CANCELLED, None, None)
    assert gpu.claim() is None


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_a_cancel_outlives_the_worker(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, how: str) -> None:
    lease = gpu.must_claim()
    scheduler.queue.cancel(lease.job_id)

    if how == "gone":
        scheduler.fleet.worker_gone(lease.worker_id)
    else:
        clock.advance(11)
        assert scheduler.reaper.run_once().expired_jobs == [lease.job_id]

    assert scheduler.queue.get(lease.job_id).status is JobStatus.CANCELLED
    assert [attempt.outcome for attempt in scheduler.queue.attempts(lease.job_id)] == [Outcome.EXPIRED]


@pytest.mark.parametrize("ending", [*ENDINGS, "fail"])
def test_an_ended_job_stays_as_it_is(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, ending: str) -> None:
    lease = gpu.must_claim()
    if ending == "fail":
        scheduler.leases.fail(lease, ERROR)
    else:
        scheduler.queue.cancel(lease.job_id)
        ENDINGS[ending](scheduler, lease)
    before = snapshot(scheduler)
    clock.advance(1)

    assert scheduler.queue.cancel(lease.job_id).status.ended

    assert snapshot(scheduler) == before


def test_asking_twice_is_asking_once(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    lease = gpu.must_claim()
    scheduler.queue.cancel(lease.job_id)
    before = snapshot(scheduler)
    clock.advance(1)

    scheduler.queue.cancel(lease.job_id)

    assert snapshot(scheduler) == before


def test_a_worker_can_ask_without_extending_its_lease(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    before = snapshot(scheduler)
    assert scheduler.leases.directive(lease) is Directive.CONTINUE
    assert snapshot(scheduler) == before
    scheduler.queue.cancel(lease.job_id)

    assert scheduler.leases.directive(lease) is Directive.CANCEL
