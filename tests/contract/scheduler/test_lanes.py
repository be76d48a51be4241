"""Lanes: of one worker's jobs, those in a lane run one after another in the largest one's memory, and lanes add up."""

import pytest

from scheduler import catalog
from scheduler.policy import Policy
from scheduler.records import Job
from scheduler.service import Scheduler
from scheduler.shape import Shape
from scheduler.store import schema as s
from tests.support.databases import Clock
from tests.support.fleet import GIB, MEASURED, MODEL, RESULT, RegisteredGpu, demand_bytes, new_job, register_gpu

pytestmark = pytest.mark.usefixtures("fixed_sizes")

RESIDENT = 6 * GIB
USUAL_BYTES = 15 * GIB // 8
SMALL = {"width": 256, "height": 256, "num_frames": 8}  # 0.5 GiB
LARGE = {"width": 768, "height": 768, "num_frames": 24}  # 5.75 GiB
# What a worker gives back when it goes over from the plan that holds most to the one that parks what it can.
GIVEN_BACK = catalog.architecture(MODEL.architecture).resident_bytes(
    "fp16", MODEL.weights_bytes
) - catalog.architecture(MODEL.architecture).resident_bytes("fp16-offload", MODEL.weights_bytes)


@pytest.fixture
def policy() -> Policy:
    return Policy(reserve_after_seconds=30.0)


def submit(scheduler: Scheduler, **changes: object) -> Job:
    return scheduler.queue.submit(new_job(**changes)).job


def gpu_with_room(scheduler: Scheduler, room_bytes: int, workers: int = 1, **changes: object) -> RegisteredGpu:
    total = GIB + workers * RESIDENT + room_bytes
    return register_gpu(scheduler, workers=workers, resident_bytes=RESIDENT, total_bytes=total, **changes)


def test_the_next_job_of_a_lane_takes_the_memory_of_the_one_before(scheduler: Scheduler) -> None:
    gpu = gpu_with_room(scheduler, 7 * GIB)
    large, small, other = submit(scheduler, **LARGE), submit(scheduler), submit(scheduler, **SMALL)

    first, second = gpu.must_claim(lane=0), gpu.must_claim(lane=0)

    assert (first.job_id, first.lane) == (large.id, 0)
    assert (second.job_id, second.lane) == (small.id, 0)
    assert gpu.free_bytes == 7 * GIB - demand_bytes(large), "a lane counts as its largest"
    assert gpu.must_claim(lane=1).job_id == other.id
    assert gpu.free_bytes == 7 * GIB - demand_bytes(large) - demand_bytes(other), "and lanes add up"
    scheduler.leases.succeed(first, RESULT, MEASURED)
    assert gpu.free_bytes == 7 * GIB - demand_bytes(small) - demand_bytes(other)


def test_a_full_gpu_still_takes_a_job_into_a_lane_that_has_one(scheduler: Scheduler) -> None:
    gpu = gpu_with_room(scheduler, USUAL_BYTES, workers=2)
    jobs = [submit(scheduler).id for _ in range(2)]
    assert gpu.must_claim(lane=0).reserved_bytes == USUAL_BYTES

    assert gpu.claim(lane=1) is None
    assert gpu.claim(worker=1, lane=0) is None, "another worker's lane is another lane"
    assert gpu.must_claim(lane=0).job_id == jobs[1]
    assert gpu.free_bytes == 0


def test_what_was_measured_is_without_the_workers_own_jobs(scheduler: Scheduler) -> None:
    """What other lanes of the worker were promised is missing from it; what the lane itself holds is not."""
    gpu = gpu_with_room(scheduler, 20 * GIB)
    need = demand_bytes(submit(scheduler))
    for _ in range(3):
        submit(scheduler)
    assert gpu.claim(free_bytes=need, lane=0) is not None

    assert gpu.claim(free_bytes=2 * need - 1, lane=1) is None
    assert gpu.claim(free_bytes=need, lane=0) is not None
    assert gpu.claim(free_bytes=2 * need, lane=1) is not None


def test_a_claim_for_a_shape_never_overtakes(scheduler: Scheduler) -> None:
    gpu = gpu_with_room(scheduler, 20 * GIB, plans=("fp16", "fp16-chunked"))
    running, best, same = submit(scheduler), submit(scheduler, **SMALL, priority=50.0), submit(scheduler)
    scheduler.queue.cancel(running.id)
    shape = Shape.of(same.params).key
    other = Shape.of(best.params).key

    assert gpu.claim(lane=1, shape=shape, plan="fp16") is None, "another one is first in line"
    assert gpu.claim(lane=1, shape=other, plan="fp16-chunked") is None
    joined = gpu.claim(lane=1, shape=other, plan="fp16")
    assert joined is not None
    assert joined.job_id == best.id
    after = gpu.claim(lane=2, shape=shape)
    assert after is not None
    assert after.job_id == same.id


def test_memory_that_a_leaner_plan_gives_back_is_given_once(scheduler: Scheduler) -> None:
    """One worker changes its weights once, however many lanes it has."""
    gpu = gpu_with_room(scheduler, 0, plans=("fp16-offload", "fp16"))
    first, second = submit(scheduler, **SMALL), submit(scheduler, **SMALL)
    assert first.footprint.plan == second.footprint.plan == "fp16-offload"
    assert demand_bytes(first) <= GIVEN_BACK

    lease = gpu.must_claim(lane=0)

    assert lease.reserved_bytes == Policy().memory_class_bytes
    assert gpu.claim(lane=1) is None
    assert gpu.must_claim(lane=0).job_id in (first.id, second.id)


def test_a_reserved_start_waits_for_the_last_of_a_lane(scheduler: Scheduler, clock: Clock) -> None:
    gpu = gpu_with_room(scheduler, 7 * GIB, workers=2)
    seconds = [submit(scheduler).footprint.seconds for _ in range(2)]
    for _ in seconds:
        gpu.must_claim(lane=0)
    large = submit(scheduler, **LARGE)
    began = clock.seconds
    clock.advance(31)

    assert gpu.claim(worker=1) is None

    made = scheduler.fleet.gpu("GPU-0").reservation
    assert made is not None
    assert made.job_id == large.id
    assert made.start_at == pytest.approx(began + sum(seconds))


def test_a_job_that_has_to_wait_for_its_lane_ends_so_much_later(scheduler: Scheduler, clock: Clock) -> None:
    """It would end before the reserved start if it began now, but not after the job of its own lane."""
    gpu = gpu_with_room(scheduler, 7 * GIB, workers=2)
    submit(scheduler, num_inference_steps=100)
    gpu.must_claim(lane=0)  # for two minutes
    submit(scheduler, **SMALL, num_inference_steps=200)
    gpu.must_claim(worker=1, lane=0)  # for half a minute
    large = submit(scheduler, **LARGE)
    clock.advance(31)
    soon = submit(scheduler, num_inference_steps=58)

    assert gpu.claim(worker=1, lane=0) is None

    made = scheduler.fleet.gpu("GPU-0").reservation
    assert made is not None
    assert made.job_id == large.id
    left = made.start_at - clock.seconds
    assert left - 4 < soon.footprint.seconds * Policy().backfill_slack < left
    assert gpu.must_claim(worker=1, lane=1).job_id == soon.id


def test_a_lease_and_its_attempt_say_where_they_run(scheduler: Scheduler) -> None:
    gpu = gpu_with_room(scheduler, 7 * GIB)
    job = submit(scheduler)

    gpu.must_claim(lane=3)

    (attempt,) = scheduler.queue.attempts(job.id)
    assert (attempt.shape, attempt.gpu_kind, attempt.plan) == ("512x512x16", gpu.info.kind, "fp16")
    (lease,) = scheduler.fleet.gpu("GPU-0").leases
    assert lease.lane == 3


def test_a_lease_carries_the_checkpoint_to_go_on_from(scheduler: Scheduler) -> None:
    gpu = gpu_with_room(scheduler, 7 * GIB)
    job = submit(scheduler)
    assert gpu.must_claim().checkpoint is None
    with scheduler.database.write() as conn:
        conn.execute(
            s.checkpoints.insert().values(
                job_id=job.id, lease=1, key="k", step=12, fingerprint="f", plan="fp16", bytes=7, saved_at=1.0
            )
        )
    scheduler.fleet.worker_gone(gpu.workers[0])
    with scheduler.database.write() as conn:
        conn.execute(s.job_states.update().values(not_before=0.0))
    gpu.add_worker(RESIDENT)

    found = gpu.must_claim(worker=1).checkpoint

    assert found is not None
    assert (found.key, found.step, found.fingerprint, found.plan, found.bytes) == ("k", 12, "f", "fp16", 7)
    assert scheduler.queue.get(job.id).checkpoint_step == 12
