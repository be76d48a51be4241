"""What goes on at a glance."""

import pytest

from scheduler.activity import Ended
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from tests.support.databases import Clock
from tests.support.fleet import ERROR, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu

HALF_HOUR = 1800.0


@pytest.fixture
def gpu(scheduler: Scheduler, clock: Clock) -> RegisteredGpu:
    clock.advance(HALF_HOUR - clock.seconds % HALF_HOUR)  # spans begin at round times
    return register_gpu(scheduler)


def succeed(scheduler: Scheduler, gpu: RegisteredGpu, tenant: str = "default") -> None:
    scheduler.queue.submit(new_job(tenant=tenant))
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)


def test_an_empty_queue_has_empty_spans(scheduler: Scheduler, clock: Clock) -> None:
    found = scheduler.activities.look(spans=3)
    assert (found.at, found.queued, found.running, found.oldest_wait_seconds) == (clock.seconds, 0, 0, None)
    assert [span.jobs for span in found.ended] == [0, 0, 0]
    starts = [span.at for span in found.ended]
    assert starts == [starts[0], starts[0] + HALF_HOUR, starts[0] + 2 * HALF_HOUR]
    assert starts[-1] <= clock.seconds < starts[-1] + HALF_HOUR


def test_jobs_are_counted_where_they_ended(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    succeed(scheduler, gpu)
    clock.advance(HALF_HOUR - 0.001)  # the last moment of the span
    succeed(scheduler, gpu)
    clock.advance(0.001)
    scheduler.queue.submit(new_job())
    scheduler.leases.fail(gpu.must_claim(), ERROR)
    scheduler.queue.cancel(scheduler.queue.submit(new_job()).job.id)

    found = scheduler.activities.look(spans=2)
    now = clock.seconds
    assert found.ended == [Ended(now - HALF_HOUR, succeeded=2), Ended(now, failed=1, cancelled=1)]
    assert [span.jobs for span in found.ended] == [2, 2]
    assert found.last_hour == Ended(now - 3600, succeeded=2, failed=1, cancelled=1)


def test_what_ended_before_is_left_out(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    succeed(scheduler, gpu)
    clock.advance(3600)
    assert scheduler.activities.look(spans=2).last_hour.jobs == 1
    clock.advance(0.001)
    found = scheduler.activities.look(spans=2)
    assert (found.last_hour.jobs, sum(span.jobs for span in found.ended)) == (0, 0)


def test_the_oldest_wait_is_of_a_job_that_could_start(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    scheduler.queue.submit(new_job())
    scheduler.leases.retry(gpu.must_claim(), ERROR)  # it waits for its backoff, and so for nobody
    assert scheduler.activities.look().oldest_wait_seconds is None
    scheduler.queue.submit(new_job())
    clock.advance(7)
    scheduler.queue.submit(new_job())
    found = scheduler.activities.look()
    assert (found.queued, found.running, found.oldest_wait_seconds) == (3, 0, 7)


def test_a_tenant_sees_its_own_only(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    succeed(scheduler, gpu, "acme")
    scheduler.queue.submit(new_job(tenant="acme"))
    clock.advance(5)
    scheduler.queue.submit(new_job(tenant="umbrella"))
    clock.advance(5)
    acme, umbrella = (scheduler.activities.look(name) for name in ("acme", "umbrella"))
    assert (acme.queued, acme.oldest_wait_seconds, acme.last_hour.succeeded) == (1, 10, 1)
    assert (umbrella.queued, umbrella.oldest_wait_seconds, umbrella.last_hour.succeeded) == (1, 5, 0)
    assert scheduler.activities.look().queued == 2


def test_jobs_are_counted_by_state_and_not_further_than_asked(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    succeed(scheduler, gpu)
    for tenant in ("acme", "acme", "acme", "umbrella"):
        scheduler.queue.submit(new_job(tenant=tenant))
    nothing = dict.fromkeys(JobStatus, 0)
    assert scheduler.activities.counts() == nothing | {JobStatus.SUCCEEDED: 1, JobStatus.QUEUED: 4}
    assert scheduler.activities.counts("acme") == nothing | {JobStatus.QUEUED: 3}
    assert scheduler.activities.counts("acme", most=1)[JobStatus.QUEUED] == 2
