"""Models that are held: their jobs wait, whoever holds them, until somebody releases them."""

import pytest

from scheduler.errors import InvalidParameter, NotFound
from scheduler.records import JobError
from scheduler.service import Scheduler
from scheduler.states import JobStatus, Outcome
from tests.support.databases import Clock
from tests.support.fleet import ERROR, MEASURED, MODEL, RESULT, RegisteredGpu, new_job, register_gpu

NOT_FINITE = JobError("numerical_error", "step 7 has values that are not finite")


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


def held(scheduler: Scheduler) -> str | None:
    return scheduler.queue.models()[MODEL.id].held


def run(gpu: RegisteredGpu, clock: Clock, job_id: str | None = None) -> str:
    """Run a new job, or one that waits, into numbers that are not finite; returns its id."""
    job_id = job_id or gpu.scheduler.queue.submit(new_job()).job.id
    clock.advance(100)
    lease = gpu.must_claim()
    assert lease.job_id == job_id
    gpu.scheduler.leases.numerical_failure(lease, NOT_FINITE, MEASURED)
    return job_id


def ended(gpu: RegisteredGpu, clock: Clock, how: str) -> None:
    gpu.scheduler.queue.submit(new_job(priority=100.0))
    clock.advance(100)
    lease = gpu.must_claim()
    leases = gpu.scheduler.leases
    if how == "succeeded":
        leases.succeed(lease, RESULT, MEASURED)
    elif how == "failed otherwise":
        leases.fail(lease, ERROR)
    elif how == "retried for another reason":
        leases.retry(lease, ERROR)
        gpu.scheduler.queue.cancel(lease.job_id)
    else:
        leases.release(lease)
        gpu.scheduler.queue.cancel(lease.job_id)


def test_a_held_model_starts_no_job_and_a_running_one_goes_on(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    scheduler.queue.submit(new_job())
    running = gpu.must_claim()
    waiting = scheduler.queue.submit(new_job()).job.id

    served = scheduler.control.hold_model(MODEL.id, " its weights are damaged\n", "alice")

    assert (served.id, served.held) == (MODEL.id, "its weights are damaged")
    assert held(scheduler) == "its weights are damaged"
    scheduler.leases.succeed(running, RESULT, MEASURED)
    assert gpu.claim() is None
    released = scheduler.control.release_model(MODEL.id, "bob")
    assert (released.held, held(scheduler)) == (None, None)
    assert gpu.must_claim().job_id == waiting
    told = [(event.type, event.actor, event.data) for event in scheduler.events.read(subject=MODEL.id)]
    assert told == [
        ("model.held", "alice", {"reason": "its weights are damaged"}),
        ("model.released", "bob", {}),
    ]


def test_holding_again_replaces_the_reason_and_releasing_again_does_nothing(
    scheduler: Scheduler, gpu: RegisteredGpu
) -> None:
    scheduler.control.release_model(MODEL.id, "bob")
    assert scheduler.events.read(subject=MODEL.id) == []
    scheduler.control.hold_model(MODEL.id, "a", "alice")
    assert scheduler.control.hold_model(MODEL.id, "b", "alice").held == "b"


def test_a_hold_survives_the_registration_of_a_restarted_host(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    scheduler.control.hold_model(MODEL.id, "its weights are damaged", "alice")
    scheduler.fleet.register(MODEL, [gpu.info])
    gpu.add_worker()
    scheduler.queue.submit(new_job())

    assert held(scheduler) == "its weights are damaged"
    assert gpu.claim(worker=1) is None


def test_what_is_no_model_or_no_reason_is_refused(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    with pytest.raises(NotFound, match="no model nobody/knows"):
        scheduler.control.hold_model("nobody/knows", "a", "alice")
    with pytest.raises(NotFound):
        scheduler.control.release_model("nobody/knows", "alice")
    for reason in (" ", "x" * 501, "nul \x00"):
        with pytest.raises(InvalidParameter, match="reason"):
            scheduler.control.hold_model(MODEL.id, reason, "alice")


def test_a_numerical_failure_is_retried_like_any_error(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    job_id = run(gpu, clock)

    job = scheduler.queue.get(job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 1)
    assert job.not_before > clock.seconds
    (attempt,) = scheduler.queue.attempts(job_id)
    assert (attempt.outcome, attempt.error, attempt.measured) == (Outcome.RETRIED, NOT_FINITE, MEASURED)
    assert held(scheduler) is None


def test_three_in_a_row_of_two_jobs_hold_the_model_and_not_the_device(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    first = run(gpu, clock)
    run(gpu, clock, first)
    scheduler.queue.cancel(first)
    assert held(scheduler) is None
    run(gpu, clock)

    reason = held(scheduler)
    assert reason == f"its last runs have all failed by their numbers: {NOT_FINITE.message}"
    (event,) = scheduler.events.read(subject=MODEL.id)
    assert (event.type, event.actor, event.data) == ("model.held", "scheduler", {"reason": reason})
    assert scheduler.fleet.gpu("GPU-0").state == "active"
    clock.advance(100)
    assert gpu.claim() is None


def test_one_job_alone_holds_nothing(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    job_id = run(gpu, clock)
    for _ in range(2):
        run(gpu, clock, job_id)

    assert scheduler.queue.get(job_id).status is JobStatus.FAILED
    assert held(scheduler) is None


@pytest.mark.parametrize(
    ("between", "holds"),
    [
        ("succeeded", False),
        ("failed otherwise", False),
        ("retried for another reason", False),
        ("given back", True),
    ],
)
def test_only_runs_in_a_row_count(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, between: str, holds: bool
) -> None:
    first = run(gpu, clock)
    run(gpu, clock, first)
    scheduler.queue.cancel(first)
    ended(gpu, clock, between)
    run(gpu, clock)

    assert (held(scheduler) is not None) is holds


def test_after_a_release_the_count_begins_anew(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(run(gpu, clock))
        scheduler.queue.cancel(jobs[-1])
    clock.advance(1)
    scheduler.control.release_model(MODEL.id, "alice")
    for _ in range(2):
        jobs.append(run(gpu, clock))
        scheduler.queue.cancel(jobs[-1])
        assert held(scheduler) is None
    run(gpu, clock)
    assert held(scheduler) is not None


def test_other_models_runs_do_not_count(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    other = register_gpu(scheduler, "GPU-1", model="other")
    for _ in range(2):
        scheduler.queue.cancel(run(gpu, clock))
    scheduler.queue.submit(new_job(model="other"))
    scheduler.leases.succeed(other.must_claim(), RESULT, MEASURED)
    run(gpu, clock)

    assert held(scheduler) is not None
    assert scheduler.queue.models()["other"].held is None
