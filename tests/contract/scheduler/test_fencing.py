"""A lease that is not the job's own any more changes nothing, whatever is tried with it."""

import inspect
from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduler.errors import LeaseLost
from scheduler.leases import Leases
from scheduler.records import Checkpoint, Lease
from scheduler.service import Scheduler
from scheduler.states import Directive
from tests.support.databases import Clock
from tests.support.fleet import ERROR, HALF_WAY, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu, snapshot

CHECKPOINT = Checkpoint("jobs/x/1/checkpoint_25.safetensors", 25, "f" * 64, "fp16", bytes=4096)
USED = replace(MEASURED, working_peak_bytes=2**30)
CALLS: dict[str, Callable[[Leases, Lease], object]] = {
    "directive": lambda leases, lease: leases.directive(lease),
    "report": lambda leases, lease: leases.report(lease, HALF_WAY),
    "report with a checkpoint": lambda leases, lease: leases.report(lease, HALF_WAY, CHECKPOINT),
    "succeed": lambda leases, lease: leases.succeed(lease, RESULT, MEASURED),
    "fail": lambda leases, lease: leases.fail(lease, ERROR, MEASURED),
    "retry": lambda leases, lease: leases.retry(lease, ERROR, MEASURED, checkpoint=CHECKPOINT),
    "numerical_failure": lambda leases, lease: leases.numerical_failure(lease, ERROR, MEASURED, checkpoint=CHECKPOINT),
    "out_of_memory": lambda leases, lease: leases.out_of_memory(lease, USED, checkpoint=CHECKPOINT, stage="denoising"),
    "resumed": lambda leases, lease: leases.resumed(lease, 12),
    "discard_checkpoint": lambda leases, lease: leases.discard_checkpoint(lease, "it is damaged"),
    "notice": lambda leases, lease: leases.notice(lease, "note", "something to know"),
    "release": lambda leases, lease: leases.release(lease, checkpoint=CHECKPOINT, measured=MEASURED),
    "cancelled": lambda leases, lease: leases.cancelled(lease),
}


def ended(gpu: RegisteredGpu, clock: Clock) -> Lease:
    lease = gpu.must_claim()
    gpu.scheduler.leases.succeed(lease, RESULT, MEASURED)
    return lease


def released(gpu: RegisteredGpu, clock: Clock) -> Lease:
    lease = gpu.must_claim()
    gpu.scheduler.leases.release(lease)
    return lease


def taken_over(gpu: RegisteredGpu, clock: Clock) -> Lease:
    lease = gpu.must_claim()
    gpu.scheduler.fleet.worker_gone(gpu.workers[0])
    clock.advance(60)
    gpu.add_worker()
    assert gpu.must_claim(worker=1).job_id == lease.job_id
    return lease


def ended_by_another(gpu: RegisteredGpu, clock: Clock) -> Lease:
    lease = taken_over(gpu, clock)
    gpu.scheduler.leases.succeed(replace(lease, fence=2, worker_id=gpu.workers[1]), RESULT, MEASURED)
    return lease


def expired(gpu: RegisteredGpu, clock: Clock) -> Lease:
    lease = gpu.must_claim()
    clock.advance(11)
    assert gpu.scheduler.reaper.run_once().expired_jobs == [lease.job_id]
    return lease


def taken_from_a_worker_to_be_killed(gpu: RegisteredGpu, clock: Clock) -> Lease:
    lease = gpu.must_claim()
    assert gpu.scheduler.leases.release_worker(lease.worker_id) == [lease.job_id]
    return lease


def failed(gpu: RegisteredGpu, clock: Clock) -> Lease:
    lease = gpu.must_claim()
    gpu.scheduler.leases.fail(lease, ERROR)
    return lease


def taken_back_by_the_same_worker(gpu: RegisteredGpu, clock: Clock) -> Lease:
    lease = released(gpu, clock)
    assert gpu.must_claim().worker_id == lease.worker_id
    return lease


def cancelled(gpu: RegisteredGpu, clock: Clock) -> Lease:
    lease = gpu.must_claim()
    gpu.scheduler.queue.cancel(lease.job_id)
    gpu.scheduler.leases.cancelled(lease)
    return lease


def deleted(gpu: RegisteredGpu, clock: Clock) -> Lease:
    lease = ended(gpu, clock)
    gpu.scheduler.queue.delete(lease.job_id)
    return lease


def from_the_future(gpu: RegisteredGpu, clock: Clock) -> Lease:
    return replace(gpu.must_claim(), fence=2)


def test_every_call_of_a_worker_is_in_this_test() -> None:
    takes_a_lease = {
        name
        for name, method in inspect.getmembers(Leases, inspect.isfunction)
        if not name.startswith("_") and "lease" in inspect.signature(method).parameters
    }
    assert takes_a_lease == {name.split()[0] for name in CALLS}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "lose",
    [
        ended,
        failed,
        cancelled,
        deleted,
        released,
        expired,
        taken_from_a_worker_to_be_killed,
        taken_over,
        taken_back_by_the_same_worker,
        ended_by_another,
        from_the_future,
    ],
)
def test_a_stale_fence_changes_nothing(
    scheduler: Scheduler, clock: Clock, lose: Callable[[RegisteredGpu, Clock], Lease], call: str
) -> None:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    stale = lose(gpu, clock)
    before = snapshot(scheduler)
    clock.advance(1)

    with pytest.raises(LeaseLost, match=f"lease {stale.fence} of {stale.job_id}"):
        CALLS[call](scheduler.leases, stale)

    assert snapshot(scheduler) == before


def test_a_lease_that_has_run_out_is_held_until_somebody_takes_it_back(scheduler: Scheduler, clock: Clock) -> None:
    """A worker that was late is not punished for it: nobody else has begun."""
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    lease = gpu.must_claim()
    clock.advance(60)

    assert scheduler.leases.report(lease, HALF_WAY) is Directive.CONTINUE
    assert scheduler.reaper.run_once().expired_jobs == []


def test_fences_grow_for_ever(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    fences = []
    for end in (scheduler.leases.release, lambda lease: scheduler.leases.retry(lease, ERROR), scheduler.leases.release):
        lease = gpu.must_claim()
        fences.append(lease.fence)
        end(lease)
        clock.advance(60)

    assert fences == [1, 2, 3]
