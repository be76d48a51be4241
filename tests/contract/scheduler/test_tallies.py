"""What attempts and jobs add up to, as the metrics tell it."""

from dataclasses import replace

import pytest

from scheduler.policy import Policy
from scheduler.records import JobError, Lease
from scheduler.service import Scheduler
from scheduler.states import JobStatus, Outcome
from scheduler.store.waits import Recent
from scheduler.tallies import Comparison, Ended, Run, RunTally, Tallies, Tally
from tests.support.databases import Clock
from tests.support.fleet import ERROR, GIB, MEASURED, MODEL, RESULT, RegisteredGpu, new_job, register_gpu

RUN = Run(MODEL.id, "fp16", "NVIDIA GeForce RTX 3090")
DAY = 86_400.0
DONE = replace(MEASURED, energy_joules=100.0)


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


def take(scheduler: Scheduler, retention_seconds: float = 90 * DAY) -> Tally:
    return Tallies(scheduler.database, retention_seconds).take()


def started(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, seconds: float = 10.0) -> Lease:
    """Run a job for `seconds`, and leave its end to the test."""
    scheduler.queue.submit(new_job())
    lease = gpu.must_claim()
    clock.advance(seconds)
    return lease


def test_before_the_first_job_there_is_nothing(scheduler: Scheduler) -> None:
    tally = take(scheduler)
    assert tally.jobs == dict.fromkeys(JobStatus, 0)
    assert (tally.runs, tally.recent) == ({}, {})


def test_attempts_are_counted_by_how_they_ended(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    for seconds in (10.0, 20.0):
        scheduler.leases.succeed(started(scheduler, gpu, clock, seconds), RESULT, DONE)
    scheduler.leases.fail(started(scheduler, gpu, clock, 5.0), ERROR, DONE)
    scheduler.leases.fail(started(scheduler, gpu, clock, 1.0), JobError("video_error", "no room"))
    started(scheduler, gpu, clock)
    scheduler.queue.submit(new_job())

    tally = take(scheduler)
    assert tally.jobs == {
        JobStatus.QUEUED: 1,
        JobStatus.RUNNING: 1,
        JobStatus.SUCCEEDED: 2,
        JobStatus.FAILED: 2,
        JobStatus.CANCELLED: 0,
    }
    (run,) = tally.runs
    assert run == RUN
    one = tally.runs[run]
    assert one.outcomes == {Outcome.SUCCEEDED: Ended(2, 30.0), Outcome.FAILED: Ended(2, 6.0)}
    assert one.errors == {ERROR.code: 1, "video_error": 1}
    assert one.energy_joules == 300.0


def test_predictions_stand_beside_what_was_measured_of_the_same_attempts(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    first = started(scheduler, gpu, clock)
    job = scheduler.queue.get(first.job_id)
    scheduler.leases.succeed(first, RESULT, replace(DONE, run_seconds=8.0, vram_peak_bytes=7 * GIB))
    scheduler.leases.succeed(
        started(scheduler, gpu, clock), RESULT, replace(DONE, run_seconds=9.0, vram_peak_bytes=None)
    )
    resumed = started(scheduler, gpu, clock)
    scheduler.leases.resumed(resumed, step=40)
    scheduler.leases.succeed(resumed, RESULT, replace(DONE, run_seconds=1.0, vram_peak_bytes=9 * GIB))
    scheduler.leases.fail(started(scheduler, gpu, clock), ERROR, DONE)

    one = take(scheduler).runs[RUN]
    predicted_bytes = job.footprint.model_bytes + job.footprint.working_bytes
    assert one.seconds == Comparison(2, pytest.approx(2 * job.footprint.seconds), 17.0)
    assert one.vram_bytes == Comparison(2, 2 * predicted_bytes, 16 * GIB)


def test_sums_begin_again_with_the_day_and_what_they_are_of_stays_for_another(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    clock.seconds = 20_000 * DAY + 60.0
    scheduler.leases.fail(started(scheduler, gpu, clock), ERROR)
    assert take(scheduler).runs[RUN].outcomes == {Outcome.FAILED: Ended(1, 10.0)}
    clock.seconds = 20_001 * DAY - 1.0
    assert take(scheduler).runs[RUN].outcomes == {Outcome.FAILED: Ended(1, 10.0)}
    clock.advance(1.0)
    assert take(scheduler).runs == {RUN: RunTally({Outcome.FAILED: Ended(0, 0.0)}, {ERROR.code: 0})}
    clock.advance(DAY)
    assert take(scheduler).runs == {}


def test_no_period_outlasts_the_retention(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    clock.seconds = 20_000 * DAY + 3590.0
    scheduler.leases.succeed(started(scheduler, gpu, clock, 5.0), RESULT, DONE)
    assert take(scheduler, 3600.0).runs[RUN].outcomes == {Outcome.SUCCEEDED: Ended(1, 5.0)}
    clock.advance(10.0)
    assert take(scheduler, 3600.0).runs[RUN].outcomes == {Outcome.SUCCEEDED: Ended(0, 0.0)}


def test_a_deleted_job_takes_nothing_from_the_sums(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    lease = started(scheduler, gpu, clock)
    scheduler.leases.succeed(lease, RESULT, DONE)
    before = take(scheduler)
    scheduler.queue.delete(lease.job_id)
    after = take(scheduler)
    assert after.runs == before.runs
    assert after.jobs[JobStatus.SUCCEEDED] == 0


def test_waits_are_those_of_the_jobs_that_ended_in_the_last_hour(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    scheduler.queue.submit(new_job())
    clock.advance(30.0)
    lease = gpu.must_claim()
    clock.advance(60.0)
    scheduler.leases.succeed(lease, RESULT, DONE)
    assert take(scheduler).recent == {MODEL.id: Recent(1, pytest.approx(30.0), pytest.approx(90.0))}
    clock.advance(3601.0)
    assert take(scheduler).recent == {}


def test_the_time_that_a_job_was_put_off_is_no_wait(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    scheduler.queue.submit(new_job(not_before=clock.seconds + 100.0))
    clock.advance(110.0)
    scheduler.leases.succeed(gpu.must_claim(), RESULT, DONE)
    assert take(scheduler).recent == {MODEL.id: Recent(1, pytest.approx(10.0), pytest.approx(10.0))}


def test_a_job_that_ran_twice_has_waited_for_its_first_start(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, policy: Policy
) -> None:
    scheduler.queue.submit(new_job())
    clock.advance(20.0)
    lease = gpu.must_claim()
    clock.advance(10.0)
    scheduler.leases.retry(lease, ERROR)
    clock.advance(policy.retry_cap_seconds)
    again = gpu.must_claim()
    scheduler.leases.succeed(again, RESULT, DONE)
    (recent,) = take(scheduler).recent.values()
    assert recent == Recent(1, pytest.approx(20.0), pytest.approx(30.0 + policy.retry_cap_seconds))
    outcomes = take(scheduler).runs[RUN].outcomes
    assert {outcome: ended.attempts for outcome, ended in outcomes.items()} == {
        Outcome.RETRIED: 1,
        Outcome.SUCCEEDED: 1,
    }


def test_workers_that_gave_way_are_counted_for_an_hour(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    register_gpu(scheduler, "GPU-1")
    for _ in range(2):
        scheduler.fleet.worker_worn(gpu.workers[0], "GPU-0", "700 MiB more than at first stay behind")
        clock.advance(1800)
    assert take(scheduler).worn == {"GPU-0": 2}
    clock.advance(1)
    assert take(scheduler).worn == {"GPU-0": 1}
    clock.advance(3600)
    assert take(scheduler).worn == {}
