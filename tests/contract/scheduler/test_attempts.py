"""How an attempt ends, and what is kept of it."""

import pytest

from scheduler.policy import Policy
from scheduler.records import JobError
from scheduler.service import Scheduler
from scheduler.states import Directive, JobStatus, Outcome, Stage
from tests.support.databases import Clock
from tests.support.fleet import ERROR, GIB, HALF_WAY, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu

LEASE_SECONDS = Policy().lease_seconds


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    return gpu


def outcomes(scheduler: Scheduler, job_id: str) -> list[tuple[int, int, Outcome | None, JobError | None]]:
    return [(a.number, a.fence, a.outcome, a.error) for a in scheduler.queue.attempts(job_id)]


def test_progress_is_visible_and_extends_the_lease(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    lease = gpu.must_claim()
    job = scheduler.queue.get(lease.job_id)
    assert job.progress is not None
    assert (job.progress.stage, job.progress.step, job.progress.steps) == (Stage.LOADING, 0, 50)
    clock.advance(LEASE_SECONDS - 1)

    assert scheduler.leases.report(lease, HALF_WAY) is Directive.CONTINUE

    job = scheduler.queue.get(lease.job_id)
    assert (job.status, job.progress, job.gpu_id) == (JobStatus.RUNNING, HALF_WAY, "GPU-0")
    assert job.started_at == clock.seconds - LEASE_SECONDS + 1
    (open_lease,) = scheduler.fleet.gpu("GPU-0").leases
    assert (open_lease.expires_at, open_lease.progress) == (clock.seconds + LEASE_SECONDS, HALF_WAY)
    clock.advance(LEASE_SECONDS)
    assert scheduler.leases.expire_silent() == []
    assert scheduler.fleet.drop_silent_workers() == [], "a report is a sign of life of the worker too"


def test_success_publishes_the_result(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    lease = gpu.must_claim()
    clock.advance(5)

    assert scheduler.leases.succeed(lease, RESULT, MEASURED) is JobStatus.SUCCEEDED

    job = scheduler.queue.get(lease.job_id)
    assert (job.status, job.result, job.measured, job.error) == (JobStatus.SUCCEEDED, RESULT, MEASURED, None)
    assert (job.attempts, job.progress, job.finished_at, job.gpu_id) == (1, None, clock.seconds, "GPU-0")
    (attempt,) = scheduler.queue.attempts(job.id)
    assert (attempt.number, attempt.fence, attempt.gpu_id, attempt.worker_id) == (1, 1, "GPU-0", gpu.workers[0])
    assert (attempt.plan, attempt.predicted_vram_bytes) == ("fp16", job.footprint.vram_bytes)
    assert attempt.predicted_seconds == job.footprint.seconds
    assert (attempt.started_at, attempt.ended_at) == (clock.seconds - 5, clock.seconds)
    assert (attempt.outcome, attempt.measured, attempt.error) == (Outcome.SUCCEEDED, MEASURED, None)
    assert gpu.free_bytes == 17 * GIB


def test_a_failure_is_final_and_says_why(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()

    scheduler.leases.fail(lease, ERROR, MEASURED)

    job = scheduler.queue.get(lease.job_id)
    assert (job.status, job.error, job.result, job.measured) == (JobStatus.FAILED, ERROR, None, MEASURED)
    assert outcomes(scheduler, job.id) == [(1, 1, Outcome.FAILED, ERROR)]
    assert gpu.claim() is None


def test_a_release_burns_no_attempt_and_adds_no_wait(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    for fence in range(1, 6):  # more often than there are attempts
        lease = gpu.must_claim()
        assert (lease.fence, lease.attempt) == (fence, 1)
        assert scheduler.leases.release(lease) is JobStatus.QUEUED
        assert scheduler.queue.get(lease.job_id).attempts == 0

    assert outcomes(scheduler, lease.job_id) == [(1, fence, Outcome.RELEASED, None) for fence in range(1, 6)]


def test_retries_back_off_until_the_attempts_are_used_up(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    for attempt, full_seconds in ((1, 1.0), (2, 2.0)):
        lease = gpu.must_claim()
        assert lease.attempt == attempt
        assert scheduler.leases.retry(lease, ERROR, MEASURED) is JobStatus.QUEUED
        job = scheduler.queue.get(lease.job_id)
        assert (job.attempts, job.error) == (attempt, None)
        assert full_seconds / 2 <= job.not_before - clock.seconds < full_seconds
        clock.advance(full_seconds / 2 - 0.01)
        assert gpu.claim() is None, "it has to wait"
        clock.advance(full_seconds / 2 + 0.01)

    assert scheduler.leases.retry(gpu.must_claim(), ERROR) is JobStatus.FAILED

    job = scheduler.queue.get(lease.job_id)
    assert job.error == JobError(ERROR.code, "it broke (attempt 3 of 3)")
    assert [(n, f, o) for n, f, o, _ in outcomes(scheduler, job.id)] == [
        (number, number, Outcome.RETRIED) for number in (1, 2, 3)
    ]
    assert gpu.claim() is None


def test_a_job_in_backoff_does_not_hold_up_others(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    other = scheduler.queue.submit(new_job(priority=0.5)).job
    scheduler.leases.retry(lease, ERROR)

    assert gpu.must_claim().job_id == other.id


def test_silence_costs_an_attempt_and_ends_in_failure(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    for attempt in (1, 2, 3):
        lease = gpu.must_claim()
        clock.advance(LEASE_SECONDS)
        assert scheduler.leases.expire_silent() == [], "not a moment too early"
        clock.advance(0.001)
        assert scheduler.leases.expire_silent() == [lease.job_id]
        assert scheduler.leases.expire_silent() == []
        assert scheduler.queue.get(lease.job_id).attempts == attempt
        clock.advance(60)

    job = scheduler.queue.get(lease.job_id)
    assert job.status is JobStatus.FAILED
    assert job.error == JobError("worker_lost", "the worker died or fell silent (attempt 3 of 3)")
    history = scheduler.queue.attempts(job.id)
    assert [attempt.outcome for attempt in history] == [Outcome.EXPIRED] * 3
    assert {attempt.error.code for attempt in history if attempt.error} == {"worker_lost"}
    assert gpu.free_bytes == 17 * GIB


def test_the_jobs_of_a_dead_worker_come_back_at_once(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    lease = gpu.must_claim()
    other = register_gpu(scheduler, "GPU-1")
    kept = scheduler.queue.submit(new_job()).job.id
    assert other.must_claim().job_id == kept

    assert scheduler.fleet.worker_gone(gpu.workers[0]) == [lease.job_id]

    assert scheduler.queue.get(lease.job_id).status is JobStatus.QUEUED
    assert scheduler.queue.get(kept).status is JobStatus.RUNNING
    assert scheduler.fleet.gpu("GPU-0").workers == ()
    assert scheduler.fleet.worker_gone(gpu.workers[0]) == []
    assert scheduler.fleet.touch_worker(gpu.workers[0]) is False, "it has to register again"
    clock.advance(1)
    assert gpu.claim() is None, "its worker is not known any more"


def test_a_silent_worker_is_given_up_and_its_leases_run_out(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    lease = gpu.must_claim()
    lively = gpu.add_worker()
    clock.advance(LEASE_SECONDS)
    assert scheduler.fleet.touch_worker(lively)
    assert scheduler.fleet.drop_silent_workers() == []
    clock.advance(0.001)

    assert scheduler.fleet.drop_silent_workers() == [gpu.workers[0]]

    assert [worker.id for worker in scheduler.fleet.gpu("GPU-0").workers] == [lively]
    assert scheduler.leases.expire_silent() == [lease.job_id], "its lease runs out by itself"
    assert scheduler.queue.get(lease.job_id).status is JobStatus.QUEUED
