"""What workers hold between jobs, and what changes when that does: no byte is promised twice meanwhile."""

import pytest

from scheduler import catalog
from scheduler.plans import GPU_PLANS
from scheduler.records import Worker
from scheduler.service import Scheduler
from tests.support.fleet import GIB, HALF_WAY, MODEL, RegisteredGpu, demand_bytes, new_job, register_gpu

pytestmark = pytest.mark.usefixtures("fixed_sizes")

MIB = 2**20
MORE = 300 * MIB  # than the data sheet says


def weights(plan: str) -> int:
    return catalog.architecture(MODEL.architecture).resident_bytes(plan, MODEL.weights_bytes)


def holds(scheduler: Scheduler, gpu: RegisteredGpu, plan: str | None, resident_bytes: int) -> None:
    worker = Worker(gpu.workers[0], gpu.info.id, 1, MODEL.id, resident_bytes, ready=True, plan=plan)
    scheduler.fleet.register_worker(worker)


def gpu_of(scheduler: Scheduler, *plans: str, total_bytes: int = 24 * GIB, workers: int = 1) -> RegisteredGpu:
    return register_gpu(scheduler, plans=plans, total_bytes=total_bytes, workers=workers)


def reserved(scheduler: Scheduler) -> list[int]:
    return [lease.reserved_bytes for lease in scheduler.fleet.gpu("GPU-0").leases]


@pytest.mark.parametrize("more", [MORE, -MORE])
def test_a_plan_that_is_loaded_costs_and_gives_nothing_whatever_was_measured(scheduler: Scheduler, more: int) -> None:
    gpu = gpu_of(scheduler, *GPU_PLANS)
    holds(scheduler, gpu, "fp16-streamed", weights("fp16-streamed") + more)
    job = scheduler.queue.submit(new_job()).job
    assert job.footprint.plan == "fp16"

    assert gpu.must_claim().reserved_bytes == demand_bytes(job) + weights("fp16") - weights("fp16-streamed")

    holds(scheduler, gpu, "fp16", weights("fp16") + more)
    scheduler.queue.submit(new_job())
    assert gpu.must_claim().reserved_bytes == demand_bytes(job)


def test_what_a_process_holds_without_weights_it_holds_with_them_too(scheduler: Scheduler) -> None:
    gpu = gpu_of(scheduler, "fp16")
    process = catalog.architecture(MODEL.architecture).demand.process_bytes
    holds(scheduler, gpu, None, process + MORE)
    job = scheduler.queue.submit(new_job()).job

    assert gpu.must_claim().reserved_bytes == demand_bytes(job) + weights("fp16") - process


def test_a_job_that_is_to_load_again_what_its_worker_has_put_away_keeps_the_room_for_it(scheduler: Scheduler) -> None:
    """It was claimed for weights that were there, and has not begun when its worker tells that they are not."""
    gpu = gpu_of(scheduler, "fp16", "fp16-streamed")
    holds(scheduler, gpu, "fp16", weights("fp16"))
    job = scheduler.queue.submit(new_job()).job
    lease = gpu.must_claim()
    free = gpu.free_bytes

    holds(scheduler, gpu, "fp16-streamed", weights("fp16-streamed"))

    assert gpu.free_bytes == free
    holds(scheduler, gpu, "fp16", weights("fp16"))
    assert gpu.free_bytes == free, "and once it is loaded, that is not counted twice"
    assert reserved(scheduler) == [lease.reserved_bytes] == [demand_bytes(job)]


def test_a_job_that_is_done_under_another_plan_needs_no_weights(scheduler: Scheduler) -> None:
    gpu = gpu_of(scheduler, "fp16", "fp16-streamed")
    holds(scheduler, gpu, "fp16", weights("fp16"))
    job = scheduler.queue.submit(new_job()).job
    scheduler.leases.report(gpu.must_claim(), HALF_WAY)

    holds(scheduler, gpu, "fp16-streamed", weights("fp16-streamed"))

    assert reserved(scheduler) == [demand_bytes(job)]


def test_what_another_worker_is_about_to_take_is_not_measured_yet(scheduler: Scheduler) -> None:
    """A stranger is in no book: of what was measured beside it, each byte is given once."""
    gpu = gpu_of(scheduler, "fp16", workers=2)
    first, _ = (scheduler.queue.submit(new_job()).job for _ in range(2))
    measured = 2 * demand_bytes(first) - 1

    lease = gpu.claim(measured, worker=0)
    assert lease is not None
    assert gpu.claim(measured, worker=1) is None
    scheduler.leases.report(lease, HALF_WAY)  # by now it has it, and so it is missing from what is measured
    assert gpu.claim(measured - demand_bytes(first), worker=1) is None
    assert gpu.claim(demand_bytes(first), worker=1) is not None
