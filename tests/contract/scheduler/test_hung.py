"""Workers that are heard while their job stands still: the reaper's part, should their supervisor not do its own."""

import pytest

from scheduler.errors import LeaseLost
from scheduler.policy import Policy
from scheduler.records import JobError, Lease, Progress
from scheduler.service import Scheduler
from scheduler.states import DrainMode, JobStatus, Outcome, Stage
from tests.support.databases import Clock
from tests.support.fleet import HALF_WAY, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu

_LIMIT = 60  # seconds; a job's predicted step is far below 1/20 of it
_GRACE = 10  # one lease time, for the supervisor


@pytest.fixture
def policy() -> Policy:
    return Policy(hang_seconds=_LIMIT)


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    scheduler.reaper.run_once()
    return gpu


def beat(scheduler: Scheduler, clock: Clock, lease: Lease, seconds: float, *, moving: bool = False) -> list[str]:
    """Let time pass while the worker is heard and the reaper works; returns the hung jobs it took back."""
    until = clock.seconds + seconds
    while clock.seconds < until:
        clock.advance(min(5.0, until - clock.seconds))
        fraction = 0.5 + (clock.seconds % 1000) / 1e4 if moving else 0.5
        scheduler.leases.report(lease, Progress(Stage.DENOISING, 25, 50, fraction))
        if hung := scheduler.reaper.run_once().hung_jobs:
            return hung
    return []


def test_a_job_without_progress_is_taken_back_and_its_worker_gets_no_more(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    lease = gpu.must_claim()
    scheduler.leases.report(lease, HALF_WAY)
    assert beat(scheduler, clock, lease, _LIMIT + _GRACE) == []

    assert beat(scheduler, clock, lease, 1) == [lease.job_id]

    job = scheduler.queue.get(lease.job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 1)
    (attempt,) = scheduler.queue.attempts(job.id)
    why = "no progress for 71 s, limit 60 s, at denoising, step 25 of 50"
    assert (attempt.outcome, attempt.error) == (Outcome.EXPIRED, JobError("worker_hung", why))
    assert scheduler.fleet.look_at_worker("GPU-0", gpu.workers[0]).condemned == why
    with pytest.raises(LeaseLost):
        scheduler.leases.succeed(lease, RESULT, MEASURED)
    clock.advance(5)
    scheduler.fleet.touch_worker(gpu.workers[0])
    assert gpu.claim() is None, "it hangs still, or is about to be killed"
    gpu.add_worker()
    assert gpu.must_claim(worker=1).attempt == 2


def test_a_condemned_worker_stays_so_until_it_is_gone(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    lease = gpu.must_claim()
    scheduler.leases.report(lease, HALF_WAY)
    beat(scheduler, clock, lease, _LIMIT + _GRACE + 1)
    (worker,) = scheduler.fleet.gpu("GPU-0").workers
    scheduler.fleet.register_worker(worker)

    assert scheduler.fleet.look_at_worker("GPU-0", worker.id).condemned is not None


def test_any_progress_will_do(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    lease = gpu.must_claim()

    assert beat(scheduler, clock, lease, 3 * _LIMIT, moving=True) == []


def test_a_job_that_was_asked_for_must_come_back(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    lease = gpu.must_claim()
    scheduler.fleet.drain("GPU-0", "maintenance", "alice", mode=DrainMode.CHECKPOINT)
    assert beat(scheduler, clock, lease, _LIMIT + _GRACE, moving=True) == []

    assert beat(scheduler, clock, lease, 1, moving=True) == [lease.job_id]

    (attempt,) = scheduler.queue.attempts(lease.job_id)
    assert attempt.error == JobError("worker_hung", "the job was not given back within 71 s, limit 60 s")


def test_a_pause_of_the_reaper_is_not_held_against_anyone(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    """The machine slept for an hour: nobody made progress, and nobody is hung."""
    lease = gpu.must_claim()
    scheduler.leases.report(lease, HALF_WAY)
    beat(scheduler, clock, lease, _LIMIT)
    clock.advance(3600)

    assert beat(scheduler, clock, lease, 5) == [], "from here it counts"
    assert beat(scheduler, clock, lease, _LIMIT + _GRACE) == []
    assert beat(scheduler, clock, lease, 1) == [lease.job_id]


def test_a_silent_worker_is_lost_and_not_hung(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    lease = gpu.must_claim()
    for _ in range(0, _LIMIT + _GRACE + 5, 5):
        clock.advance(5)
        scheduler.fleet.touch_worker(gpu.workers[0])
        assert scheduler.reaper.run_once().hung_jobs == []

    (attempt,) = scheduler.queue.attempts(lease.job_id)
    assert attempt.error is not None
    assert attempt.error.code == "worker_lost"


def test_hanging_again_and_again_ends_the_job_with_its_history(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    for number in range(3):
        lease = gpu.must_claim(worker=number)
        beat(scheduler, clock, lease, _LIMIT + _GRACE + 10)
        gpu.add_worker(resident_bytes=1)
        clock.advance(5)

    job = scheduler.queue.get(lease.job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "worker_hung"
    assert [attempt.outcome for attempt in scheduler.queue.attempts(job.id)] == [Outcome.EXPIRED] * 3


def test_a_lease_that_waits_in_its_lane_hangs_only_with_the_one_before_it(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    first = gpu.must_claim(lane=1)
    scheduler.queue.submit(new_job())
    second = gpu.must_claim(lane=1)
    assert (first.worker_id, first.lane) == (second.worker_id, second.lane)

    def both(seconds: float) -> list[str]:
        """The first one makes progress; the second one is reported as it is, waiting."""
        until = clock.seconds + seconds
        while clock.seconds < until:
            clock.advance(5.0)
            scheduler.leases.report(first, Progress(Stage.DENOISING, 25, 50, (clock.seconds % 1000) / 1e4))
            scheduler.leases.report(second, Progress(Stage.LOADING, 0, 50, 0.0))
            if hung := scheduler.reaper.run_once().hung_jobs:
                return hung
        return []

    assert both(3 * _LIMIT) == []
    scheduler.leases.succeed(first, RESULT, MEASURED)

    def waits(seconds: float) -> list[str]:
        until = clock.seconds + seconds
        while clock.seconds < until:
            clock.advance(5.0)
            scheduler.leases.report(second, Progress(Stage.LOADING, 0, 50, 0.0))
            if hung := scheduler.reaper.run_once().hung_jobs:
                return hung
        return []

    assert waits(_LIMIT) == [], "it is its turn only now"
    assert waits(_GRACE + 5) == [second.job_id]


@pytest.mark.parametrize("end", ["retry", "release", "fail"])
def test_however_the_one_before_it_ends_its_turn_begins_then(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, end: str
) -> None:
    first = gpu.must_claim(lane=1)
    scheduler.queue.submit(new_job())
    second = gpu.must_claim(lane=1)
    clock.advance(40)
    leases = scheduler.leases
    ends = {
        "retry": lambda: leases.retry(first, JobError("pipeline_error", "it broke")),
        "release": lambda: leases.release(first),
        "fail": lambda: leases.fail(first, JobError("input_unreadable", "it broke")),
    }
    ends[end]()

    (left,) = scheduler.fleet.gpu("GPU-0").leases
    assert (left.job_id, left.progress_at) == (second.job_id, clock.seconds)
