"""Deadlines: what has not ended by its own fails, in the queue and wherever it runs, by whatever path it stops."""

from collections.abc import Callable

import pytest

from scheduler import deadlines
from scheduler.records import JobError, Lease
from scheduler.service import Scheduler
from scheduler.states import Directive, JobStatus, Outcome
from scheduler.store import checkpoints
from scheduler.wakeup import CHANGES, DISPATCH, JOBS_WAITING, job_topic
from tests.support.databases import Clock
from tests.support.fleet import ERROR, HALF_WAY, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu, snapshot
from tests.support.query_plans import query_plan

CLOCK = 1_800_000_000.0  # 2027-01-15T08:00:00Z
LATE = JobError("deadline_exceeded", "the job had not ended by its deadline, 2027-01-15T08:01:00Z")


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


@pytest.fixture
def job_id(scheduler: Scheduler, gpu: RegisteredGpu) -> str:
    return submit(scheduler)


def submit(scheduler: Scheduler, seconds: float = 60.0, **changes: object) -> str:
    return scheduler.queue.submit(new_job(deadline_at=CLOCK + seconds, **changes)).job.id


def types(scheduler: Scheduler, job_id: str) -> list[str]:
    return [event.type for event in scheduler.events.read(subject=job_id)]


def test_a_queued_job_fails_at_its_deadline(
    scheduler: Scheduler, gpu: RegisteredGpu, job_id: str, clock: Clock
) -> None:
    clock.advance(59.9)
    assert scheduler.reaper.run_once().overdue_jobs == []
    clock.advance(0.1)

    assert scheduler.queue.enforce_deadlines() == [job_id]

    job = scheduler.queue.get(job_id)
    assert (job.status, job.error, job.finished_at) == (JobStatus.FAILED, LATE, clock.seconds)
    assert gpu.claim() is None
    told = scheduler.events.read(subject=job_id)[-1]
    assert (told.type, told.tenant) == ("job.failed", "default")
    assert told.data == {"error": {"code": LATE.code, "message": LATE.message}}
    assert scheduler.queue.enforce_deadlines() == []


def test_a_job_that_is_not_due_yet_fails_all_the_same(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    deferred = submit(scheduler, not_before=CLOCK + 1000)
    clock.advance(60)

    assert scheduler.reaper.run_once().overdue_jobs == [deferred]
    assert scheduler.queue.get(deferred).status is JobStatus.FAILED


def test_a_running_job_is_asked_to_stop(scheduler: Scheduler, gpu: RegisteredGpu, job_id: str, clock: Clock) -> None:
    lease = gpu.must_claim()
    assert scheduler.leases.report(lease, HALF_WAY) is Directive.CONTINUE
    clock.advance(60)

    assert scheduler.queue.enforce_deadlines() == [job_id]

    job = scheduler.queue.get(job_id)
    assert (job.status, job.cancel_requested) == (JobStatus.RUNNING, True)
    told = scheduler.events.read(subject=job_id)[-1]
    assert (told.type, told.data) == ("job.cancel_requested", {"reason": "deadline_exceeded"})
    assert scheduler.leases.report(lease, HALF_WAY) is Directive.CANCEL
    assert scheduler.queue.enforce_deadlines() == [], "it has been asked"
    assert scheduler.leases.cancelled(lease, MEASURED) is JobStatus.FAILED
    job = scheduler.queue.get(job_id)
    assert (job.status, job.error, job.measured) == (JobStatus.FAILED, LATE, MEASURED)
    (attempt,) = scheduler.queue.attempts(job_id)
    assert (attempt.outcome, attempt.error) == (Outcome.CANCELLED, LATE)
    assert types(scheduler, job_id)[-2:] == ["job.cancel_requested", "job.failed"]


ENDINGS: dict[str, Callable[[Scheduler, Lease], object]] = {
    "succeed": lambda s, lease: s.leases.succeed(lease, RESULT, MEASURED),
    "release": lambda s, lease: s.leases.release(lease),
    "retry": lambda s, lease: s.leases.retry(lease, ERROR),
    "out of memory": lambda s, lease: s.leases.out_of_memory(lease, MEASURED, stage="denoising"),
    "cancelled": lambda s, lease: s.leases.cancelled(lease),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_job_that_was_asked_to_stop_fails_by_whatever_path_it_ends(
    scheduler: Scheduler, gpu: RegisteredGpu, job_id: str, clock: Clock, ending: str
) -> None:
    lease = gpu.must_claim()
    clock.advance(60)
    scheduler.queue.enforce_deadlines()

    assert ENDINGS[ending](scheduler, lease) is JobStatus.FAILED

    job = scheduler.queue.get(job_id)
    assert (job.status, job.error, job.result) == (JobStatus.FAILED, LATE, None)
    assert gpu.free_bytes == register_gpu(scheduler, "GPU-1").free_bytes, "its lease is closed"


@pytest.mark.parametrize("ending", ["release", "retry", "out of memory"])
def test_nothing_goes_back_into_the_queue_after_its_deadline(
    scheduler: Scheduler, gpu: RegisteredGpu, job_id: str, clock: Clock, ending: str
) -> None:
    lease = gpu.must_claim()
    clock.advance(60)

    assert ENDINGS[ending](scheduler, lease) is JobStatus.FAILED

    assert scheduler.queue.get(job_id).error == LATE
    with scheduler.database.read() as conn:
        assert checkpoints.of(conn, job_id) is None


@pytest.mark.parametrize("enforced", [True, False])
@pytest.mark.parametrize("how", ["silent", "gone"])
def test_a_deadline_outlives_the_worker(
    scheduler: Scheduler, gpu: RegisteredGpu, job_id: str, clock: Clock, how: str, enforced: bool
) -> None:
    lease = gpu.must_claim()
    clock.advance(60)
    if enforced:
        scheduler.queue.enforce_deadlines()

    if how == "gone":
        scheduler.fleet.worker_gone(lease.worker_id)
    else:
        assert scheduler.leases.expire_silent() == [job_id]

    assert scheduler.queue.get(job_id).error == LATE
    assert [attempt.outcome for attempt in scheduler.queue.attempts(job_id)] == [Outcome.EXPIRED]


def test_a_job_that_succeeds_before_anybody_noticed_is_a_success(
    scheduler: Scheduler, gpu: RegisteredGpu, job_id: str, clock: Clock
) -> None:
    lease = gpu.must_claim()
    clock.advance(61)

    assert scheduler.leases.succeed(lease, RESULT, MEASURED) is JobStatus.SUCCEEDED

    assert scheduler.queue.enforce_deadlines() == []
    assert scheduler.queue.get(job_id).status is JobStatus.SUCCEEDED


def test_an_error_of_its_own_stays(scheduler: Scheduler, gpu: RegisteredGpu, job_id: str, clock: Clock) -> None:
    lease = gpu.must_claim()
    clock.advance(60)
    scheduler.queue.enforce_deadlines()
    scheduler.leases.fail(lease, ERROR)
    assert scheduler.queue.get(job_id).error == ERROR


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_cancel_before_the_deadline_stays_a_cancel(
    scheduler: Scheduler, gpu: RegisteredGpu, job_id: str, clock: Clock, ending: str
) -> None:
    lease = gpu.must_claim()
    clock.advance(59)
    scheduler.queue.cancel(job_id)
    clock.advance(2)

    assert scheduler.queue.enforce_deadlines() == []
    assert ENDINGS[ending](scheduler, lease) is JobStatus.CANCELLED

    job = scheduler.queue.get(job_id)
    assert (job.status, job.error) == (JobStatus.CANCELLED, None)


def test_jobs_that_have_ended_or_have_no_deadline_are_left_alone(
    scheduler: Scheduler, gpu: RegisteredGpu, job_id: str, clock: Clock
) -> None:
    scheduler.queue.cancel(job_id)
    scheduler.queue.submit(new_job())
    gpu.must_claim()
    scheduler.queue.submit(new_job())
    submit(scheduler, 61.0)
    clock.advance(60)
    before = snapshot(scheduler)

    assert scheduler.queue.enforce_deadlines() == []

    assert snapshot(scheduler) == before


def test_many_are_enforced_in_batches_the_longest_ago_first(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "_BATCH", 2)
    monkeypatch.setattr(deadlines, "_BATCHES", 2)
    made = [submit(scheduler, 10.0 + index) for index in range(5)]
    clock.advance(60)

    assert [scheduler.queue.enforce_deadlines() for _ in range(3)] == [made[:4], made[4:], []]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("running", [False, True])
def test_workers_and_watchers_are_woken(
    scheduler: Scheduler, gpu: RegisteredGpu, job_id: str, clock: Clock, running: bool
) -> None:
    if running:
        gpu.must_claim()
    clock.advance(60)
    with scheduler.wakeup.listen(DISPATCH) as at_work, scheduler.wakeup.listen(CHANGES) as watching:
        scheduler.queue.enforce_deadlines()

        assert at_work.wait(0) == {JOBS_WAITING}
        assert watching.wait(0) == {job_topic(job_id)}


def test_it_is_looked_up_in_the_index_of_deadlines(scheduler: Scheduler, engine: str) -> None:
    query = deadlines.overdue(CLOCK)
    assert "ix_job_states_due" in "\n".join(query_plan(scheduler, query))
