"""Which job is claimed first: the rank, and how age makes up for weight."""

import math

import pytest

from scheduler.policy import Policy
from scheduler.service import Scheduler
from tests.support.databases import Clock
from tests.support.fleet import MEASURED, RESULT, RegisteredGpu, demand_bytes, new_job, register_gpu

TAU = Policy().tau_seconds


def submit(scheduler: Scheduler, **changes: object) -> str:
    return scheduler.queue.submit(new_job(**changes)).job.id


def run_next(gpu: RegisteredGpu) -> str | None:
    lease = gpu.claim()
    if lease is not None:
        gpu.scheduler.leases.succeed(lease, RESULT, MEASURED)
    return lease.job_id if lease else None


def run_all(gpu: RegisteredGpu) -> list[str]:
    order = []
    while (job_id := run_next(gpu)) is not None:
        order.append(job_id)
    return order


def test_the_heaviest_goes_first_across_memory_classes(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    for changes in (
        {"num_inference_steps": 10},
        {"num_inference_steps": 80},
        {"width": 768, "height": 768},
        {"priority": 40.0},
        {"width": 256, "height": 256, "priority": 0.1},
        {"num_frames": 24},
    ):
        submit(scheduler, **changes)
    jobs = scheduler.queue.list_jobs()
    assert len({demand_bytes(job) for job in jobs}) > 2

    order = run_all(gpu)

    assert order == [job.id for job in sorted(jobs, key=lambda job: -job.weight)]


def test_equal_jobs_run_in_the_order_of_their_submission(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    ids = []
    for _ in range(4):
        ids.append(submit(scheduler))
        clock.advance(0.001)

    assert run_all(gpu) == ids


def test_equal_ranks_run_in_the_order_of_their_ids(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    ids = [submit(scheduler, id=f"job_{number:026}") for number in (3, 1, 2)]

    assert run_all(gpu) == sorted(ids)


@pytest.mark.parametrize(("later_by", "overtakes"), [(TAU * math.log(2) - 1, True), (TAU * math.log(2) + 1, False)])
def test_a_later_job_overtakes_only_within_the_bound(
    scheduler: Scheduler, clock: Clock, later_by: float, overtakes: bool
) -> None:
    gpu = register_gpu(scheduler)
    early = submit(scheduler, priority=1.0)
    clock.advance(later_by)
    late = submit(scheduler, priority=2.0)

    assert run_all(gpu) == ([late, early] if overtakes else [early, late])


class TestWithoutAgeing:
    @pytest.fixture
    def policy(self) -> Policy:
        return Policy(tau_seconds=math.inf)

    def test_the_order_is_the_weight_alone(self, scheduler: Scheduler, clock: Clock) -> None:
        gpu = register_gpu(scheduler)
        light = submit(scheduler, priority=1.0)
        clock.advance(10 * 86_400)
        register_gpu(scheduler)
        heavy = submit(scheduler, priority=1.01)

        assert run_all(gpu) == [heavy, light]


def test_what_does_not_fit_does_not_hold_up_what_does(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    large = submit(scheduler, width=768, height=768, num_frames=24, priority=100.0)
    small = submit(scheduler, num_inference_steps=1)
    need = demand_bytes(scheduler.queue.get(small))

    lease = gpu.claim(free_bytes=need)

    assert lease is not None
    assert lease.job_id == small
    assert gpu.claim(free_bytes=demand_bytes(scheduler.queue.get(large)) - 1) is None


def test_a_worker_gets_only_jobs_of_its_model(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    other = register_gpu(scheduler, "GPU-1", model="other")
    mine = submit(scheduler, priority=0.1)
    theirs = submit(scheduler, model="other", priority=50.0)

    assert run_all(gpu) == [mine]
    assert run_all(other) == [theirs]


def test_a_released_job_keeps_its_place(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    first = submit(scheduler)
    clock.advance(1)
    second = submit(scheduler)
    lease = gpu.must_claim()
    assert lease.job_id == first
    rank = scheduler.queue.get(first).rank
    clock.advance(1)

    scheduler.leases.release(lease)

    assert scheduler.queue.get(first).rank == rank
    assert run_all(gpu) == [first, second]
