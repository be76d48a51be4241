"""The reaper's round: what died comes back, what can never run ends."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduler.policy import Policy
from scheduler.reaper import Reaped, Reaper
from scheduler.records import Progress, Worker
from scheduler.service import Scheduler
from scheduler.states import JobStatus, Stage
from tests.support.databases import Clock
from tests.support.fleet import GIB, MODEL, gpu_info, new_job, register_gpu


@pytest.fixture
def policy() -> Policy:
    return Policy(unschedulable_grace_seconds=30)


LARGE = {"width": 1024, "height": 1024, "num_frames": 32}


def test_an_idle_round_does_nothing(scheduler: Scheduler) -> None:
    assert scheduler.reaper.run_once() == Reaped([], [], [])
    register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    assert scheduler.reaper.run_once() == Reaped([], [], [])


def test_a_round_takes_back_jobs_and_gives_up_workers(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    job_id = scheduler.queue.submit(new_job()).job.id
    gpu.must_claim()
    clock.advance(11)

    assert scheduler.reaper.run_once() == Reaped([job_id], gpu.workers, [])
    assert scheduler.reaper.run_once() == Reaped([], [], [])


def test_a_round_says_what_it_did() -> None:
    assert not Reaped([], [], [])
    done = Reaped(["job_1", "job_2"], [], [], resumed_gpus=["GPU-0"])
    assert (bool(done), str(done)) == (True, "expired_jobs: job_1 job_2, resumed_gpus: GPU-0")


def refused(
    scheduler: Scheduler, clock: Clock, reaper: Reaper | None = None, heard: Callable[[], object] = lambda: None
) -> list[str]:
    """What is refused once it has been hopeless for longer than a dead worker counts as living."""
    reaper = reaper or scheduler.reaper
    for _ in range(3):
        assert reaper.run_once().refused_jobs == []
        clock.advance(5)
        heard()
    return reaper.run_once().refused_jobs


def submit_large(scheduler: Scheduler) -> str:
    """Queue a job that only an 80 GiB GPU holds; it was there when the job came."""
    scheduler.reaper.run_once()  # its grace begins
    register_gpu(scheduler, "GPU-80", total_bytes=80 * GIB)
    return scheduler.queue.submit(new_job(**LARGE)).job.id


def test_a_job_that_no_gpu_of_the_fleet_holds_any_more_ends_after_a_grace(scheduler: Scheduler, clock: Clock) -> None:
    job_id = submit_large(scheduler)
    small = scheduler.queue.submit(new_job()).job.id
    scheduler.fleet.register(MODEL, [gpu_info("GPU-80", total_bytes=16 * GIB)])  # another card in that slot
    clock.advance(30)
    assert scheduler.reaper.run_once().refused_jobs == []
    clock.advance(0.001)

    assert refused(scheduler, clock) == [job_id]

    job = scheduler.queue.get(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "unschedulable"
    assert f"needs {job.footprint.vram_bytes / GIB:.2f} GiB" in job.error.message
    assert "offers 15.00 GiB" in job.error.message
    assert scheduler.queue.get(small).status is JobStatus.QUEUED


def test_a_gpu_that_left_for_good_keeps_no_job_waiting(scheduler: Scheduler, clock: Clock) -> None:
    job_id = submit_large(scheduler)
    clock.advance(Policy().gpu_memory_seconds)
    register_gpu(scheduler, "GPU-16", total_bytes=16 * GIB)
    assert scheduler.reaper.run_once().refused_jobs == [], "the large GPU may come back"
    clock.advance(1)

    assert refused(scheduler, clock) == [job_id]


def test_resident_weights_are_no_room_for_a_job(scheduler: Scheduler, clock: Clock) -> None:
    """A job that would fit an empty GPU, but not beside what its worker turned out to hold, ends too."""
    scheduler.reaper.run_once()
    gpu = register_gpu(scheduler, total_bytes=40 * GIB)
    job = scheduler.queue.submit(new_job(**LARGE)).job
    room = 39 * GIB - job.footprint.working_bytes
    grown = Worker(gpu.workers[0], "GPU-0", 4711, MODEL.id, room + 1, ready=True)
    scheduler.fleet.register_worker(grown)
    clock.advance(31)
    scheduler.fleet.register_worker(grown)

    assert refused(scheduler, clock, heard=lambda: scheduler.fleet.register_worker(grown)) == [job.id]


def test_a_dead_worker_beside_the_living_one_makes_no_job_hopeless(scheduler: Scheduler, clock: Clock) -> None:
    """Its memory stands in the books until it counts as gone, after its supervisor died too."""
    scheduler.reaper.run_once()
    gpu = register_gpu(scheduler, total_bytes=80 * GIB, resident_bytes=30 * GIB)
    job = scheduler.queue.submit(new_job(**LARGE)).job
    clock.advance(31)
    scheduler.reaper.run_once()
    for _ in range(2):
        gpu.add_worker(resident_bytes=30 * GIB)

    assert refused(scheduler, clock, heard=lambda: scheduler.fleet.touch_worker(gpu.workers[-1])) == []
    assert scheduler.queue.get(job.id).status is JobStatus.QUEUED


def test_a_drained_gpu_still_keeps_its_jobs_waiting(scheduler: Scheduler, clock: Clock) -> None:
    job_id = submit_large(scheduler)
    register_gpu(scheduler, "GPU-16", total_bytes=16 * GIB)
    scheduler.fleet.drain("GPU-80", "maintenance", "alice")
    clock.advance(3600)

    assert scheduler.reaper.run_once().refused_jobs == []
    assert scheduler.queue.get(job_id).status is JobStatus.QUEUED


def test_each_model_is_judged_by_its_own_gpus(scheduler: Scheduler, clock: Clock) -> None:
    job_id = submit_large(scheduler)
    register_gpu(scheduler, "GPU-other", model="other", total_bytes=80 * GIB)
    scheduler.fleet.register(replace(MODEL), [gpu_info("GPU-80", total_bytes=16 * GIB)])
    clock.advance(31)

    assert refused(scheduler, clock) == [job_id]


def test_a_job_whose_plan_no_gpu_runs_any_more_ends(scheduler: Scheduler, clock: Clock) -> None:
    scheduler.reaper.run_once()
    register_gpu(scheduler)
    job_id = scheduler.queue.submit(new_job()).job.id
    scheduler.fleet.register(MODEL, [gpu_info(plans=("int8",))])
    clock.advance(31)

    assert refused(scheduler, clock) == [job_id]

    error = scheduler.queue.get(job_id).error
    assert error is not None
    assert "plan fp16" in error.message


def test_a_reaper_that_has_just_started_refuses_nothing(scheduler: Scheduler, clock: Clock) -> None:
    """The whole fleet was off over the weekend, and registers one by one."""
    job_id = submit_large(scheduler)
    clock.advance(3 * 24 * 3600)
    register_gpu(scheduler, "GPU-16", total_bytes=16 * GIB)
    fresh = Reaper(scheduler.database, Policy(), scheduler.queue, scheduler.leases, scheduler.fleet)
    assert fresh.run_once().refused_jobs == []
    clock.advance(59)
    assert fresh.run_once().refused_jobs == []
    clock.advance(1)

    assert refused(scheduler, clock, fresh) == [job_id]


def test_jobs_of_a_model_that_nobody_serves_any_more_end(scheduler: Scheduler, clock: Clock) -> None:
    job_id = submit_large(scheduler)
    clock.advance(Policy().gpu_memory_seconds + 1)
    register_gpu(scheduler, "GPU-other", model="other")

    assert refused(scheduler, clock) == [job_id]


def test_after_a_pause_workers_are_given_time_to_be_heard(scheduler: Scheduler, clock: Clock) -> None:
    """The store was away, or the machine slept: every lease is overdue, and every worker alive."""
    gpu = register_gpu(scheduler)
    job_id = scheduler.queue.submit(new_job()).job.id
    lease = gpu.must_claim()
    scheduler.reaper.run_once()
    clock.advance(600)
    assert scheduler.reaper.run_once() == Reaped([], [], [])
    scheduler.leases.report(lease, Progress(Stage.DENOISING, 1, 50, 0.1))
    clock.advance(9)
    assert scheduler.reaper.run_once() == Reaped([], [], [])
    clock.advance(2)

    assert scheduler.reaper.run_once() == Reaped([job_id], gpu.workers, [])
