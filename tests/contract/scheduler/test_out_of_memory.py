"""A run that did not fit: where its job goes on, what is learned from it, and that nothing is locked out for good."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select

from scheduler import rank
from scheduler.errors import Unschedulable
from scheduler.params import VideoParams
from scheduler.plans import GPU_PLANS
from scheduler.policy import Policy
from scheduler.records import Checkpoint, Lease
from scheduler.service import Scheduler
from scheduler.states import GpuState, JobStatus, Outcome, Source
from scheduler.store import schema as s
from tests.support.databases import Clock
from tests.support.fleet import (
    ERROR,
    GIB,
    HALF_WAY,
    MEASURED,
    MODEL,
    RESULT,
    RegisteredGpu,
    demand_bytes,
    new_job,
    register_gpu,
)

USED = replace(MEASURED, working_peak_bytes=9 * GIB, steps=12, step_seconds=0.5, fixed_seconds=4.0)
PLANS = ("fp16", "fp16-chunked", "fp16-streamed")


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler, plans=PLANS)


def submit(scheduler: Scheduler, **changes: object) -> str:
    return scheduler.queue.submit(new_job(**changes)).job.id


def saved(lease: Lease, step: int = 12) -> Checkpoint:
    return Checkpoint(f"jobs/{lease.job_id}/{lease.fence}/checkpoint", step, "a" * 64, lease.plan, bytes=1000)


def observed(scheduler: Scheduler) -> list[tuple[str, str, str, str, str, int | None]]:
    o = s.observations.c
    query = select(o.source, o.gpu_kind, o.model, o.plan, o.shape, o.working_peak_bytes).order_by(o.id)
    with scheduler.database.read() as conn:
        return [tuple(row) for row in conn.execute(query)]


def test_the_job_goes_on_with_a_leaner_plan_at_once_and_pays_nothing(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    job_id = submit(scheduler)
    before = scheduler.queue.get(job_id)
    lease = gpu.must_claim()
    assert lease.plan == "fp16"

    assert scheduler.leases.out_of_memory(lease, USED, checkpoint=saved(lease), stage="denoising") is JobStatus.QUEUED

    job = scheduler.queue.get(job_id)
    assert (job.status, job.attempts, job.not_before) == (JobStatus.QUEUED, 0, 0.0)
    assert job.footprint.plan == "fp16-chunked"
    assert job.footprint.working_bytes < before.footprint.working_bytes
    assert demand_bytes(job) == job.memory_class * Policy().memory_class_bytes
    assert job.plan_reason == "fp16 ran out of memory; fp16-chunked is leaner, and fits"
    (attempt,) = scheduler.queue.attempts(job_id)
    assert (attempt.outcome, attempt.measured) == (Outcome.RETRIED, USED)
    assert attempt.error is not None
    failed = "ran out of memory while denoising with plan fp16 on NVIDIA GeForce RTX 3090"
    assert (attempt.error.code, attempt.error.message) == ("out_of_memory", failed)
    (notice,) = job.notices
    assert (notice.at, notice.code) == (clock.seconds, "out_of_memory")
    assert notice.message == f"{failed}; goes on from step 12 with plan fp16-chunked"
    again = gpu.must_claim()
    assert (again.plan, again.checkpoint, again.attempt) == ("fp16-chunked", saved(lease), 1)


def test_its_place_in_line_is_that_of_the_new_plan(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    job_id = submit(scheduler, priority=2.0)
    lease = gpu.must_claim()
    virtual_at = scheduler.queue.get(job_id).virtual_at
    clock.advance(50)

    scheduler.leases.out_of_memory(lease, USED, stage="denoising")

    job = scheduler.queue.get(job_id)
    weight = rank.weight(job.footprint.seconds, job.footprint.vram_bytes, 2.0)
    assert (job.weight, job.virtual_at) == (pytest.approx(weight), virtual_at)
    place = rank.rank(
        Policy(), job_weight=weight, est_seconds=job.footprint.seconds, priority=2.0, virtual_at=virtual_at
    )
    assert job.rank == pytest.approx(place)
    assert [event.type for event in scheduler.events.read(subject=job_id)] == [
        "job.queued",
        "job.running",
        "job.requeued",
        "job.replanned",
    ]


def test_without_a_checkpoint_it_starts_anew(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    submit(scheduler)
    lease = gpu.must_claim()
    scheduler.leases.out_of_memory(lease, None, stage="loading")

    (notice,) = scheduler.queue.get(lease.job_id).notices
    assert notice.message.endswith("; starts anew with plan fp16-chunked")


def test_it_walks_down_the_plans_and_fails_only_after_the_leanest(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    job_id, plans = submit(scheduler), []
    status = JobStatus.QUEUED
    while status is JobStatus.QUEUED:
        lease = gpu.must_claim()
        plans.append(lease.plan)
        status = scheduler.leases.out_of_memory(lease, USED, checkpoint=saved(lease), stage="decoding")

    assert plans == list(PLANS)
    job = scheduler.queue.get(job_id)
    assert (job.status, job.attempts, job.checkpoint_step) == (JobStatus.FAILED, 1, None)
    assert job.error is not None
    assert job.error.code == "out_of_memory"
    assert job.error.message == (
        "ran out of memory while decoding with plan fp16-streamed on NVIDIA GeForce RTX 3090;"
        " no plan or GPU is left that is leaner"
    )
    outcomes = [attempt.outcome for attempt in scheduler.queue.attempts(job_id)]
    assert outcomes == [Outcome.RETRIED, Outcome.RETRIED, Outcome.FAILED]


def test_int8_is_for_those_who_allow_it(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler, plans=("fp16", "int8"))
    refused, allowed = submit(scheduler), submit(scheduler, allow_int8=True)
    ends = {}
    for _ in range(2):
        lease = gpu.must_claim()
        ends[lease.job_id] = scheduler.leases.out_of_memory(lease, USED, stage="denoising")

    assert ends == {refused: JobStatus.FAILED, allowed: JobStatus.QUEUED}
    assert scheduler.queue.get(allowed).footprint.plan == "int8"


def test_without_a_leaner_plan_it_goes_to_a_larger_gpu_and_only_there(scheduler: Scheduler) -> None:
    small = register_gpu(scheduler, plans=("fp16",))
    same = register_gpu(scheduler, "GPU-1", plans=("fp16",))
    large = register_gpu(scheduler, "GPU-2", plans=("fp16",), total_bytes=80 * GIB)
    job_id = submit(scheduler)
    lease = small.must_claim()

    assert scheduler.leases.out_of_memory(lease, USED, checkpoint=saved(lease), stage="denoising") is JobStatus.QUEUED

    job = scheduler.queue.get(job_id)
    assert job.plan_reason == "fp16 ran out of memory; is to run where there is more"
    assert demand_bytes(job) > 24 * GIB - GIB - 6 * GIB
    assert small.claim() is None
    assert same.claim() is None
    again = large.must_claim()
    assert (again.job_id, again.plan, again.checkpoint) == (job_id, "fp16", saved(lease))
    assert scheduler.leases.out_of_memory(again, USED, stage="denoising") is JobStatus.FAILED


def test_a_leaner_plan_where_it_failed_goes_before_a_larger_gpu(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    register_gpu(scheduler, "GPU-1", plans=("fp16",), total_bytes=80 * GIB)
    submit(scheduler)
    lease = gpu.must_claim()
    scheduler.leases.out_of_memory(lease, USED, stage="denoising")

    assert gpu.must_claim().plan == "fp16-chunked"


def test_whatever_moves_it_back_its_attempts_bound_how_often(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    """Somebody puts the job back on the plan that failed, again and again: each repetition costs an attempt."""
    job_id, status, runs = submit(scheduler), JobStatus.QUEUED, 0
    while status is JobStatus.QUEUED:
        with scheduler.database.write() as conn:
            back = s.job_states.update().where(s.job_states.c.job_id == job_id)
            conn.execute(back.values(plan="fp16", memory_class=1))
        runs += 1
        status = scheduler.leases.out_of_memory(gpu.must_claim(), USED, stage="denoising")

    assert (runs, status) == (1 + Policy().max_attempts, JobStatus.FAILED)
    error = scheduler.queue.get(job_id).error
    assert error is not None
    assert error.message.endswith("; it has failed so before, and its attempts are used up")


def test_a_cancel_wins(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    job_id = submit(scheduler)
    lease = gpu.must_claim()
    scheduler.queue.cancel(job_id)

    assert scheduler.leases.out_of_memory(lease, USED, stage="denoising") is JobStatus.CANCELLED
    assert scheduler.queue.get(job_id).status is JobStatus.CANCELLED


def test_a_gpu_that_has_left_is_no_place_to_go(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    large = register_gpu(scheduler, "GPU-1", plans=("fp16-streamed",), total_bytes=80 * GIB)
    submit(scheduler)
    lease = gpu.must_claim()
    scheduler.leases.out_of_memory(lease, USED, stage="denoising")
    lease = gpu.must_claim()
    scheduler.fleet.drain("GPU-0", "fans", "alice")
    assert scheduler.leases.out_of_memory(lease, USED, stage="denoising") is JobStatus.QUEUED

    assert scheduler.fleet.gpu("GPU-0").state is not GpuState.ACTIVE
    assert large.must_claim().plan == "fp16-streamed"


def test_what_was_not_enough_is_remembered(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    submit(scheduler)
    scheduler.leases.out_of_memory(gpu.must_claim(), USED, stage="denoising")

    kind = gpu.info.kind
    assert observed(scheduler) == [(Source.OUT_OF_MEMORY, kind, MODEL.id, "fp16", "512x512x16", 9 * GIB)]


@pytest.mark.parametrize("measured", [None, MEASURED, replace(USED, sharing=2)])
def test_what_nobody_measured_or_others_had_a_part_in_is_not(
    scheduler: Scheduler, gpu: RegisteredGpu, measured: object
) -> None:
    submit(scheduler)
    lease = gpu.must_claim()
    scheduler.leases.out_of_memory(lease, measured, stage="denoising")  # type: ignore[arg-type]

    assert observed(scheduler) == []


def test_one_failure_locks_no_shape_out_for_good(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    submit(scheduler)
    huge = replace(USED, working_peak_bytes=23 * GIB)
    scheduler.leases.out_of_memory(gpu.must_claim(), huge, stage="denoising")
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)

    for _ in range(2):  # the next one runs, with a plan that fits, and so does the one after it
        job_id = submit(scheduler)
        lease = gpu.must_claim()
        assert lease.job_id == job_id
        scheduler.leases.succeed(lease, RESULT, MEASURED)


NO_EVIDENCE: dict[str, Callable[[Scheduler, Lease], object]] = {
    "cancelled": lambda scheduler, lease: (
        scheduler.queue.cancel(lease.job_id),
        scheduler.leases.cancelled(lease, USED),
    ),
    "retried": lambda scheduler, lease: scheduler.leases.retry(lease, ERROR, USED),
    "failed": lambda scheduler, lease: scheduler.leases.fail(lease, ERROR, USED),
    "released": lambda scheduler, lease: scheduler.leases.release(lease, measured=USED),
    "crashed": lambda scheduler, lease: scheduler.fleet.worker_gone(lease.worker_id),
    "killed": lambda scheduler, lease: scheduler.leases.release_worker(lease.worker_id),
    "numerical failure": lambda scheduler, lease: scheduler.leases.numerical_failure(lease, ERROR, USED),
}


@pytest.mark.parametrize("end", NO_EVIDENCE)
def test_a_cancelled_or_crashed_run_is_no_evidence_of_a_footprint(
    scheduler: Scheduler, gpu: RegisteredGpu, end: str
) -> None:
    job_id = submit(scheduler)
    before = scheduler.queue.get(job_id).footprint
    lease = gpu.must_claim()
    scheduler.leases.report(lease, HALF_WAY)

    NO_EVIDENCE[end](scheduler, lease)

    assert observed(scheduler) == []
    assert scheduler.queue.get(submit(scheduler)).footprint == before


def test_a_job_too_large_for_every_plan_is_refused_as_before(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    params = VideoParams(1024, 1024, 32, 80, 9.0, 8, seed=1)
    small = register_gpu(scheduler, "GPU-1", plans=GPU_PLANS, total_bytes=8 * GIB, model="other")
    job = replace(new_job(), params=params, model="other")
    with pytest.raises(Unschedulable):
        scheduler.queue.submit(job)
    assert small.claim() is None
