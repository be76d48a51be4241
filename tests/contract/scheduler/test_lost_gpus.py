"""GPUs that left: the fleet forgets those that nothing holds, and what was kept on them for others."""

import pytest
from sqlalchemy import insert, select

from scheduler.errors import NotFound
from scheduler.policy import Policy
from scheduler.records import GpuSample
from scheduler.service import Scheduler
from scheduler.states import GpuState
from scheduler.store import schema as s
from tests.support.databases import Clock
from tests.support.fleet import GIB, MODEL, gpu_info, new_job, register_gpu

_MEMORY = 3600.0
_SAMPLE = GpuSample(0, GIB)


@pytest.fixture
def policy() -> Policy:
    return Policy(gpu_memory_seconds=_MEMORY)


def reap(scheduler: Scheduler, clock: Clock) -> list[str]:
    """Let the reaper work for as long as it is patient; returns the GPUs it forgot."""
    forgotten: list[str] = []
    for _ in range(15):
        clock.advance(5)
        forgotten += scheduler.reaper.run_once().forgotten_gpus
    return forgotten


def test_an_active_gpu_is_forgotten_after_its_time(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler, workers=0)
    clock.advance(_MEMORY - 75)
    assert reap(scheduler, clock) == []

    assert reap(scheduler, clock) == ["GPU-0"]

    assert scheduler.fleet.gpus() == []
    last = scheduler.events.read(subject="GPU-0")[-1]
    assert (last.type, last.data["seen_at"] < last.at - _MEMORY) == ("gpu.forgotten", True)


def test_one_that_comes_back_registers_anew(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler, workers=0)
    clock.advance(_MEMORY + 1)
    reap(scheduler, clock)
    with pytest.raises(NotFound, match="GPU-0"):
        scheduler.fleet.sample("GPU-0", _SAMPLE)

    register_gpu(scheduler)

    assert scheduler.fleet.gpu("GPU-0").state is GpuState.ACTIVE
    types = [event.type for event in scheduler.events.read(subject="GPU-0")]
    assert types == ["gpu.registered", "gpu.forgotten", "gpu.registered"]


@pytest.mark.parametrize("word", ["drained", "faulted"])
def test_what_was_said_about_a_gpu_survives(scheduler: Scheduler, clock: Clock, word: str) -> None:
    register_gpu(scheduler, workers=0)
    if word == "drained":
        scheduler.fleet.drain("GPU-0", "maintenance", "alice")
    else:
        scheduler.fleet.fault("GPU-0", "Xid 79")
    clock.advance(_MEMORY + 1)

    assert reap(scheduler, clock) == []

    scheduler.fleet.register(MODEL, [gpu_info()])
    assert scheduler.fleet.gpu("GPU-0").state == word


def test_a_gpu_with_a_worker_that_is_heard_is_not_forgotten(scheduler: Scheduler, clock: Clock) -> None:
    """Its supervisor hangs: no sample comes, but the worker works on."""
    gpu = register_gpu(scheduler)
    clock.advance(_MEMORY + 1)
    for _ in range(15):
        clock.advance(5)
        assert scheduler.fleet.touch_worker(gpu.workers[0])
        assert scheduler.reaper.run_once().forgotten_gpus == []


def test_a_reaper_that_has_just_started_forgets_nothing(scheduler: Scheduler, clock: Clock) -> None:
    """The whole installation was off over the weekend."""
    register_gpu(scheduler, workers=0)
    clock.advance(_MEMORY + 1)

    assert scheduler.reaper.run_once().forgotten_gpus == []


def reserve(scheduler: Scheduler, clock: Clock, job_id: str) -> None:
    values = {"gpu_id": "GPU-0", "job_id": job_id, "reserved_bytes": GIB, "start_at": clock.seconds, "made_at": 0.0}
    with scheduler.database.write() as conn:
        conn.execute(insert(s.reservations).values(**values))


def reserved(scheduler: Scheduler) -> list[str]:
    with scheduler.database.read() as conn:
        return list(conn.execute(select(s.reservations.c.job_id)).scalars())


@pytest.mark.parametrize("cause", ["job cancelled", "GPU offline", "GPU faulted"])
def test_a_reservation_without_a_purpose_is_dropped(scheduler: Scheduler, clock: Clock, cause: str) -> None:
    register_gpu(scheduler)
    job_id = scheduler.queue.submit(new_job()).job.id
    scheduler.reaper.run_once()
    reserve(scheduler, clock, job_id)
    assert scheduler.reaper.run_once().unreserved_jobs == []
    if cause == "job cancelled":
        with scheduler.database.write() as conn:
            conn.execute(s.job_states.update().values(status="cancelled", finished_at=clock.seconds))
    elif cause == "GPU offline":
        clock.advance(9)
        scheduler.reaper.run_once()
        clock.advance(2)
    else:
        with scheduler.database.write() as conn:
            conn.execute(s.gpus.update().values(state="faulted", reason="Xid 79"))

    assert scheduler.reaper.run_once().unreserved_jobs == [job_id]

    assert reserved(scheduler) == []


@pytest.mark.parametrize("leave", ["drain", "fault"])
def test_a_gpu_that_leaves_service_is_reserved_for_nobody(scheduler: Scheduler, clock: Clock, leave: str) -> None:
    register_gpu(scheduler)
    reserve(scheduler, clock, scheduler.queue.submit(new_job()).job.id)
    if leave == "drain":
        assert scheduler.fleet.drain("GPU-0", "maintenance", "alice").reservation is None
    else:
        scheduler.fleet.fault("GPU-0", "Xid 79")

    assert reserved(scheduler) == []
