"""A claim gives a job only memory that is measured free and that the ledger has not promised."""

import pytest

from scheduler.errors import NotFound
from scheduler.policy import Policy
from scheduler.records import Job, Worker
from scheduler.service import Scheduler
from tests.support.fleet import GIB, MEASURED, MODEL, RESULT, demand_bytes, gpu_info, new_job, register_gpu

RESIDENT = 6 * GIB


def submit(scheduler: Scheduler, **changes: object) -> Job:
    return scheduler.queue.submit(new_job(**changes)).job


def resize(scheduler: Scheduler, total_bytes: int) -> None:
    scheduler.fleet.register(MODEL, [gpu_info(total_bytes=total_bytes)])


def test_a_lease_carries_the_job_and_what_it_reserved(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    job = submit(scheduler, negative_prompt="blur")

    lease = gpu.must_claim()

    assert (lease.job_id, lease.fence, lease.attempt) == (job.id, 1, 1)
    assert (lease.worker_id, lease.gpu_id) == (gpu.workers[0], "GPU-0")
    assert (lease.model, lease.prompt, lease.params) == (job.model, job.prompt, job.params)
    assert (lease.image_key, lease.plan) == (job.image_key, "fp16")
    assert lease.reserved_bytes == demand_bytes(job) >= job.footprint.working_bytes
    assert lease.reserved_bytes % Policy().memory_class_bytes == 0


@pytest.mark.parametrize(("short_by", "runs"), [(0, True), (1, False)])
def test_measured_memory_must_cover_the_job_and_equal_is_enough(
    scheduler: Scheduler, short_by: int, runs: bool
) -> None:
    gpu = register_gpu(scheduler)
    need = demand_bytes(submit(scheduler))

    assert (gpu.claim(free_bytes=need - short_by) is not None) is runs


@pytest.mark.parametrize(("short_by", "runs"), [(0, True), (1, False)])
def test_the_ledger_must_cover_the_job_and_equal_is_enough(scheduler: Scheduler, short_by: int, runs: bool) -> None:
    gpu = register_gpu(scheduler)
    need = demand_bytes(submit(scheduler))
    resize(scheduler, GIB + RESIDENT + need - short_by)  # headroom + resident + job

    assert (gpu.claim(free_bytes=24 * GIB) is not None) is runs


@pytest.mark.parametrize("free_bytes", [0, -1])
def test_no_free_memory_is_no_memory(scheduler: Scheduler, free_bytes: int) -> None:
    gpu = register_gpu(scheduler)
    submit(scheduler)

    assert gpu.claim(free_bytes=free_bytes) is None


def test_open_leases_count_although_the_memory_is_still_measured_free(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler, workers=2)
    first, _ = submit(scheduler), submit(scheduler)
    resize(scheduler, GIB + 2 * RESIDENT + 2 * demand_bytes(first) - 1)

    lease = gpu.must_claim(worker=0)

    assert gpu.claim(worker=1) is None, "the first job has not allocated yet, but it was promised the memory"
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    assert gpu.claim(worker=1) is not None


def test_two_workers_share_a_gpu_when_both_jobs_fit(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler, workers=2)
    jobs = {submit(scheduler).id, submit(scheduler).id}
    resize(scheduler, GIB + 2 * RESIDENT + 2 * demand_bytes(scheduler.queue.list_jobs()[0]))

    assert {gpu.must_claim(worker=0).job_id, gpu.must_claim(worker=1).job_id} == jobs
    assert gpu.free_bytes == 0


def test_resident_weights_count_once_for_all_jobs_of_a_process(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    need = demand_bytes(submit(scheduler))
    submit(scheduler)
    resize(scheduler, GIB + RESIDENT + need)  # exactly one job beside the weights

    for _ in range(2):
        scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)


def test_a_process_that_still_loads_counts_with_what_it_will_need(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    need = demand_bytes(submit(scheduler))
    resize(scheduler, GIB + 2 * RESIDENT + need - 1)
    loading = gpu.add_worker(RESIDENT, ready=False)

    assert gpu.claim(worker=0) is None
    scheduler.fleet.worker_gone(loading)
    assert gpu.claim(worker=0) is not None


def test_what_a_process_turned_out_to_hold_is_what_counts(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    need = demand_bytes(submit(scheduler))
    resize(scheduler, GIB + RESIDENT + need)
    grown = Worker(gpu.workers[0], "GPU-0", 4711, MODEL.id, RESIDENT + 1, ready=True)
    scheduler.fleet.register_worker(grown)

    assert gpu.claim() is None


def test_only_a_ready_worker_of_that_gpu_may_claim(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    elsewhere = register_gpu(scheduler, "GPU-1")
    loading = gpu.add_worker(ready=False)
    submit(scheduler)

    for worker_id in (loading, "worker_unknown", elsewhere.workers[0]):
        assert scheduler.queue.claim(worker_id, "GPU-0", 24 * GIB) is None
    with pytest.raises(NotFound, match="GPU-9"):
        scheduler.queue.claim(gpu.workers[0], "GPU-9", 24 * GIB)
    assert gpu.claim() is not None


def test_an_empty_queue_gives_nothing(scheduler: Scheduler) -> None:
    assert register_gpu(scheduler).claim() is None


def test_a_gpu_gets_only_jobs_estimated_for_its_plan(scheduler: Scheduler) -> None:
    """The same job needs twice the memory in fp32: its fp16 reservation would be a promise nobody can keep."""
    half = register_gpu(scheduler, "GPU-half", kind="NVIDIA H100 80GB HBM3")
    full = register_gpu(scheduler, "GPU-full", kind="Tesla T4", plans=("fp32",))
    job = scheduler.queue.submit(new_job()).job
    assert job.footprint.plan == "fp16"

    assert full.claim() is None
    lease = half.must_claim()

    assert (lease.job_id, lease.plan) == (job.id, "fp16")
