"""Which plan a job gets: the fastest that fits the fleet, another one when that changes, and always a reason."""

from dataclasses import replace
from typing import Any

import pytest

from scheduler import catalog
from scheduler.errors import Unschedulable
from scheduler.plans import GPU_PLANS
from scheduler.policy import Policy
from scheduler.records import GpuSample, Job
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from tests.support.databases import Clock
from tests.support.fleet import ERROR, GIB, MODEL, RegisteredGpu, demand_bytes, gpu_info, new_job, register_gpu
from tests.support.sizes import FixedSizes

pytestmark = pytest.mark.usefixtures("fixed_sizes")

LARGE = {"width": 768, "height": 768, "num_frames": 24}  # 5.75 GiB beside the weights, 3 GiB under leaner plans
SMALL = {"width": 256, "height": 256, "num_frames": 8}
PLANS = GPU_PLANS[:-1]


@pytest.fixture
def policy() -> Policy:
    return Policy(unschedulable_grace_seconds=30.0)


def weights(plan: str) -> int:
    return catalog.architecture(MODEL.architecture).resident_bytes(plan, MODEL.weights_bytes)


def submit(scheduler: Scheduler, **changes: object) -> Job:
    return scheduler.queue.submit(new_job(**changes)).job


def gpu_for(
    scheduler: Scheduler, plan: str, spare: int = 0, gpu_id: str = "GPU-0", *, held: str = "fp16", **changes: object
) -> RegisteredGpu:
    """A GPU that just holds a large job under a plan; its worker holds the model as the plan `held` does."""
    need = FixedSizes().predict(MODEL, kind=gpu_info().kind, plan=plan, params=new_job(**LARGE).params)
    block = Policy().memory_class_bytes
    working = -(-need.working_bytes // block) * block
    total = GIB + need.model_bytes + working + spare
    facts: dict[str, Any] = {"plans": PLANS, **changes}
    return register_gpu(scheduler, gpu_id, total_bytes=total, resident_bytes=weights(held), plan=held, **facts)


def test_the_fastest_plan_that_fits_is_chosen_and_the_job_says_why(scheduler: Scheduler) -> None:
    gpu_for(scheduler, "fp16")

    job = submit(scheduler, **LARGE)

    assert (job.footprint.plan, job.plan_reason) == ("fp16", "fp16 is the fastest plan, and fits 1 of 1 GPU")
    assert scheduler.queue.get(job.id) == job


@pytest.mark.parametrize(
    ("chosen", "held"), [("fp16-chunked", "fp16"), ("fp16-offload", "fp16"), ("fp16-streamed", "fp16-offload")]
)
def test_where_the_fastest_does_not_fit_a_leaner_one_runs(scheduler: Scheduler, chosen: str, held: str) -> None:
    gpu = gpu_for(scheduler, chosen, held=held)

    job = submit(scheduler, **LARGE)

    need = FixedSizes().predict(MODEL, kind=gpu.info.kind, plan="fp16", params=job.params).vram_bytes / GIB
    room = (gpu.info.total_bytes - GIB) / GIB
    assert job.footprint.plan == chosen
    assert job.plan_reason == f"fp16 needs {need:.2f} GiB and no GPU has more than {room:.2f} GiB; {chosen} fits"
    lease = gpu.must_claim()
    assert (lease.job_id, lease.plan) == (job.id, chosen)
    assert gpu.free_bytes == 0, "to the last byte, with what the worker gives back"


def test_what_fits_under_no_plan_is_refused(scheduler: Scheduler) -> None:
    gpu_for(scheduler, "fp16-streamed", spare=-1)

    with pytest.raises(Unschedulable, match="plan fp16-streamed"):
        submit(scheduler, **LARGE)


def test_int8_is_for_jobs_that_allow_it(scheduler: Scheduler) -> None:
    gpu = gpu_for(scheduler, "int8", plans=("fp16", "int8"))
    with pytest.raises(Unschedulable, match="plan fp16"):
        submit(scheduler, **LARGE)

    allowed = submit(scheduler, **LARGE, allow_int8=True)

    assert allowed.footprint.plan == "int8"
    assert gpu.must_claim().plan == "int8"


def test_a_job_that_allows_int8_has_it_only_where_nothing_faster_fits(scheduler: Scheduler) -> None:
    gpu_for(scheduler, "fp16", plans=GPU_PLANS)

    assert submit(scheduler, **LARGE, allow_int8=True).footprint.plan == "fp16"


def test_one_claim_looks_at_all_plans_in_the_order_of_the_line(scheduler: Scheduler) -> None:
    gpu = gpu_for(scheduler, "fp16-chunked")
    jobs = [submit(scheduler, **LARGE), submit(scheduler, priority=40.0), submit(scheduler, **SMALL, priority=50.0)]
    assert [job.footprint.plan for job in jobs] == ["fp16-chunked", "fp16", "fp16"]
    in_line = [job.id for job in sorted(jobs, key=lambda job: -job.rank)]

    assert [gpu.must_claim(lane=0).job_id for _ in jobs] == in_line


def test_jobs_of_several_plans_stand_in_one_line(scheduler: Scheduler) -> None:
    gpu_for(scheduler, "fp16-chunked")
    jobs = [submit(scheduler, **LARGE), submit(scheduler, priority=40.0), submit(scheduler, **SMALL, priority=50.0)]
    in_line = sorted(jobs, key=lambda job: -job.rank)

    places = [info.position for info in scheduler.queue.explain_all(in_line) if info is not None]
    each = [info.position for job in in_line if (info := scheduler.queue.explain(job)) is not None]

    assert places == each == [1, 2, 3]


def test_a_faster_plan_takes_memory_and_reserves_it(scheduler: Scheduler) -> None:
    """The weights are parked, or were unloaded: loading them is part of the job."""
    gpu = gpu_for(scheduler, "fp16", held="fp16-streamed")
    job = submit(scheduler, **LARGE)

    lease = gpu.must_claim()

    assert lease.reserved_bytes == demand_bytes(job) + weights("fp16") - weights("fp16-streamed")
    assert gpu.free_bytes == 0


def shrink(scheduler: Scheduler, to: str) -> None:
    """Another card is in the slot, with memory for a large job under that plan."""
    fits = FixedSizes().predict(MODEL, kind=gpu_info().kind, plan=to, params=new_job(**LARGE).params)
    block = Policy().memory_class_bytes
    total = GIB + fits.model_bytes + -(-fits.working_bytes // block) * block
    scheduler.fleet.register(MODEL, [gpu_info(total_bytes=total, plans=PLANS)])


def reap(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> list[str]:
    """Rounds in which the worker is heard, until something has been hopeless for long enough."""
    scheduler.reaper.run_once()
    clock.advance(31)
    for worker in gpu.workers:
        scheduler.fleet.touch_worker(worker)
    replanned: list[str] = []
    for _ in range(4):
        round_ = scheduler.reaper.run_once()
        assert round_.refused_jobs == []
        replanned += round_.replanned_jobs
        clock.advance(5)
        for worker in gpu.workers:
            scheduler.fleet.touch_worker(worker)
    return replanned


def test_a_job_whose_plan_fits_no_longer_gets_another_one(scheduler: Scheduler, clock: Clock) -> None:
    gpu = gpu_for(scheduler, "fp16")
    job = submit(scheduler, **LARGE)
    shrink(scheduler, "fp16-offload")
    wait = scheduler.queue.explain(job)
    assert wait is not None
    assert (wait.wait.code, wait.wait.details["next_plan"]) == ("too_large", "fp16-offload")

    scheduler.control.pause("so that no worker is idle", "alice")
    assert reap(scheduler, clock, gpu) == [job.id]
    scheduler.control.resume("alice")

    replanned = scheduler.queue.get(job.id)
    assert replanned.footprint.plan == "fp16-offload"
    assert replanned.plan_reason.startswith("fp16 fits the fleet no longer: fp16 needs")
    assert (replanned.weight, replanned.memory_class) != (job.weight, job.memory_class)
    assert replanned.version > job.version
    (event,) = [one for one in scheduler.events.read(0, limit=1000) if one.type == "job.replanned"]
    assert (event.subject, event.actor, event.data["plan"]) == (job.id, "reaper", "fp16-offload")
    lease = gpu.must_claim()
    assert (lease.job_id, lease.plan) == (job.id, "fp16-offload")


def test_a_job_whose_plan_no_gpu_runs_any_more_gets_another_one(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler, total_bytes=40 * GIB)
    job = submit(scheduler)
    scheduler.fleet.register(MODEL, [gpu_info(plans=("fp32",), total_bytes=40 * GIB)])
    scheduler.fleet.drain("GPU-0", "so that it is not idle", "alice")

    assert reap(scheduler, clock, gpu) == [job.id]

    assert scheduler.queue.get(job.id).footprint.plan == "fp32"


def test_a_plan_that_has_run_out_of_memory_is_not_tried_again(scheduler: Scheduler, clock: Clock) -> None:
    gpu = gpu_for(scheduler, "fp16")
    job = submit(scheduler, **LARGE)
    scheduler.leases.retry(gpu.must_claim(), replace(ERROR, code="out_of_memory"))
    clock.advance(5)
    scheduler.fleet.touch_worker(gpu.workers[0])

    assert scheduler.queue.replan(job.id)

    assert scheduler.queue.get(job.id).footprint.plan == "fp16-chunked"


def test_a_running_job_keeps_its_plan(scheduler: Scheduler) -> None:
    gpu = gpu_for(scheduler, "fp16")
    job = submit(scheduler, **LARGE)
    gpu.must_claim()
    shrink(scheduler, "fp16-offload")

    assert not scheduler.queue.replan(job.id)
    assert not scheduler.queue.replan("job_unknown")
    assert scheduler.queue.get(job.id).footprint.plan == "fp16"


@pytest.fixture
def busy_and_idle(scheduler: Scheduler) -> tuple[RegisteredGpu, RegisteredGpu]:
    """A GPU with room for large jobs, which is busy, and an idle one that holds them under a leaner plan only."""
    busy = gpu_for(scheduler, "fp16", gpu_id="GPU-1")
    submit(scheduler, **LARGE)
    busy.must_claim()
    return busy, gpu_for(scheduler, "fp16-offload", gpu_id="GPU-2")


def test_a_worker_that_nothing_fits_gets_the_first_job_that_a_leaner_plan_fits(
    scheduler: Scheduler, busy_and_idle: tuple[RegisteredGpu, RegisteredGpu]
) -> None:
    _, idle = busy_and_idle
    first, second = submit(scheduler, **LARGE, priority=9.0), submit(scheduler, **LARGE)
    assert idle.claim() is None

    assert scheduler.reaper.run_once().replanned_jobs == [first.id]

    replanned = scheduler.queue.get(first.id)
    assert replanned.footprint.plan == "fp16-offload"
    free = idle.info.total_bytes / GIB
    assert replanned.plan_reason == (
        f"GPU GPU-2 was idle with {free:.2f} GiB free: fp16-offload fits there now, fp16 does not"
    )
    assert scheduler.reaper.run_once().replanned_jobs == [], "that one is to start first"
    lease = idle.must_claim()
    assert (lease.job_id, lease.plan) == (first.id, "fp16-offload")
    assert scheduler.reaper.run_once().replanned_jobs == [], "and now it is not idle"
    assert scheduler.queue.get(second.id).footprint.plan == "fp16"


def test_a_job_that_an_idle_worker_can_take_as_it_is_keeps_its_plan(
    scheduler: Scheduler, busy_and_idle: tuple[RegisteredGpu, RegisteredGpu]
) -> None:
    busy, _ = busy_and_idle
    busy.add_worker(0)
    gpu_for(scheduler, "fp16", gpu_id="GPU-3")

    job = submit(scheduler, **LARGE)

    assert scheduler.reaper.run_once().replanned_jobs == []
    assert scheduler.queue.get(job.id).footprint.plan == "fp16"


@pytest.mark.parametrize(
    "why", ["something fits", "paused", "held", "drained", "memory unknown", "not ready", "offline"]
)
def test_nothing_is_replanned_for_a_worker_that_could_not_start_it(
    scheduler: Scheduler, clock: Clock, busy_and_idle: tuple[RegisteredGpu, RegisteredGpu], why: str
) -> None:
    _, idle = busy_and_idle
    submit(scheduler, **LARGE)
    if why == "something fits":
        submit(scheduler, **SMALL, priority=0.01)
    elif why == "paused":
        scheduler.control.pause("maintenance", "alice")
    elif why == "held":
        scheduler.control.hold_model(MODEL.id, "damaged", "alice")
    elif why == "drained":
        scheduler.fleet.drain("GPU-2", "maintenance", "alice")
    elif why == "memory unknown":
        scheduler.fleet.sample("GPU-2", GpuSample(None, None, problem="the driver does not answer"))
    elif why == "not ready":
        scheduler.fleet.worker_gone(idle.workers[0])
        idle.add_worker(weights("fp16"), ready=False)
    else:
        clock.advance(11)

    assert scheduler.reaper.run_once().replanned_jobs == []


def test_a_job_goes_over_only_to_a_plan_that_can_use_its_checkpoint(
    scheduler: Scheduler, busy_and_idle: tuple[RegisteredGpu, RegisteredGpu]
) -> None:
    _, idle = busy_and_idle
    scheduler.fleet.register(MODEL, [replace(idle.info, plans=("fp32-chunked", "fp16-offload"))])
    job = submit(scheduler, **LARGE)

    assert scheduler.reaper.run_once().replanned_jobs == [job.id]
    assert scheduler.queue.get(job.id).status is JobStatus.QUEUED
