"""Draining a GPU: no new job from that moment, `drained` only when it is empty, and for as long as it takes."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from scheduler.errors import InvalidParameter, NotFound
from scheduler.records import GpuSample
from scheduler.service import Scheduler
from scheduler.states import GpuState, JobStatus
from tests.support.databases import Clock
from tests.support.fleet import MEASURED, MODEL, RESULT, RegisteredGpu, gpu_info, new_job, register_gpu


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    return gpu


def state(scheduler: Scheduler) -> GpuState:
    return scheduler.fleet.gpu("GPU-0").state


def test_a_draining_gpu_gets_no_job(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    drained = scheduler.fleet.drain("GPU-0", " fan is loud ", "alice")

    assert (drained.state, drained.reason, drained.actor) == (GpuState.DRAINING, "fan is loud", "alice")
    assert drained.state_changed_at == clock.seconds
    assert gpu.claim() is None
    other = register_gpu(scheduler, "GPU-1")
    assert other.claim() is not None


def test_it_is_drained_only_when_its_job_and_its_process_are_gone(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")
    assert state(scheduler) is GpuState.DRAINING
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    scheduler.reaper.run_once()
    assert state(scheduler) is GpuState.DRAINING, "its process still holds memory"

    scheduler.fleet.worker_gone(gpu.workers[0])

    assert state(scheduler) is GpuState.DRAINED


def test_a_dead_process_ends_the_drain_and_its_job_moves_on(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")

    assert scheduler.fleet.worker_gone(gpu.workers[0]) == [lease.job_id]

    assert state(scheduler) is GpuState.DRAINED
    assert scheduler.queue.get(lease.job_id).status is JobStatus.QUEUED


def test_a_silent_process_ends_the_drain(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    gpu.must_claim()
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")
    clock.advance(11)

    scheduler.reaper.run_once()

    assert state(scheduler) is GpuState.DRAINED


def test_the_reaper_ends_a_drain_that_nobody_else_did(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    gpu.must_claim()
    with scheduler.database.write() as conn:  # given up between its last look for work and its claim
        conn.exec_driver_sql("DELETE FROM workers")
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")
    assert state(scheduler) is GpuState.DRAINING
    clock.advance(11)

    scheduler.reaper.run_once()

    assert state(scheduler) is GpuState.DRAINED


def test_a_gpu_without_a_process_is_drained_at_once(scheduler: Scheduler) -> None:
    register_gpu(scheduler, workers=0)

    assert scheduler.fleet.drain("GPU-0", "maintenance", "alice").state is GpuState.DRAINED


def test_a_process_that_appears_on_a_drained_gpu_makes_it_draining_again(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler, workers=0)
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")

    late = gpu.add_worker(ready=False)  # it was being started when the drain was asked for

    assert state(scheduler) is GpuState.DRAINING
    scheduler.fleet.worker_gone(late)
    assert state(scheduler) is GpuState.DRAINED
    assert scheduler.fleet.gpu("GPU-0").reason == "maintenance"


@pytest.mark.parametrize("workers", [0, 1], ids=["drained", "draining"])
def test_a_drain_survives_a_restart_of_the_host(scheduler: Scheduler, workers: int) -> None:
    register_gpu(scheduler, workers=workers)
    before = scheduler.fleet.drain("GPU-0", "maintenance", "alice").state

    scheduler.fleet.register(MODEL, [gpu_info()])
    scheduler.fleet.sample("GPU-0", GpuSample(0, 1))

    gpu = scheduler.fleet.gpu("GPU-0")
    assert (gpu.state, gpu.reason, gpu.actor) == (before, "maintenance", "alice")


def test_asking_again_replaces_only_the_reason(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    first = scheduler.fleet.drain("GPU-0", "maintenance", "alice")
    clock.advance(5)

    again = scheduler.fleet.drain("GPU-0", "new fan", "bob")

    assert (again.state, again.state_changed_at) == (GpuState.DRAINING, first.state_changed_at)
    assert (again.reason, again.actor) == ("new fan", "bob")


def test_resume_puts_it_back_to_work(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")
    clock.advance(5)

    resumed = scheduler.fleet.resume("GPU-0", "bob")

    assert (resumed.state, resumed.reason, resumed.actor) == (GpuState.ACTIVE, None, "bob")
    assert resumed.state_changed_at == clock.seconds
    assert gpu.claim() is not None
    clock.advance(5)
    assert scheduler.fleet.resume("GPU-0", "carol").actor == "bob", "an active GPU stays as it is"


def test_a_faulted_gpu_gets_no_job_until_it_is_resumed(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    scheduler.fleet.fault("GPU-0", "Xid 79: GPU has fallen off the bus" + "!" * 1000)

    faulted = scheduler.fleet.gpu("GPU-0")
    assert (faulted.state, faulted.actor) == (GpuState.FAULTED, "supervisor")
    assert faulted.reason is not None
    assert len(faulted.reason) == 500
    assert gpu.claim() is None
    assert scheduler.fleet.drain("GPU-0", "swap it", "alice").state is GpuState.DRAINING
    scheduler.fleet.fault("GPU-0", "again")
    assert scheduler.fleet.gpu("GPU-0").reason == "swap it", "an operator's word stands"
    scheduler.fleet.resume("GPU-0", "alice")
    assert gpu.claim() is not None


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 501])
def test_a_drain_needs_a_reason_of_sane_length(scheduler: Scheduler, gpu: RegisteredGpu, reason: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^reason must"):
        scheduler.fleet.drain("GPU-0", reason, "alice")

    assert state(scheduler) is GpuState.ACTIVE


def test_an_unknown_gpu_is_not_found(scheduler: Scheduler) -> None:
    for call in (
        lambda: scheduler.fleet.gpu("GPU-9"),
        lambda: scheduler.fleet.drain("GPU-9", "maintenance", "alice"),
        lambda: scheduler.fleet.resume("GPU-9", "alice"),
        lambda: scheduler.fleet.fault("GPU-9", "broken"),
    ):
        with pytest.raises(NotFound, match="GPU-9"):
            call()


def test_no_claim_slips_past_a_drain(scheduler: Scheduler) -> None:
    gpus = [register_gpu(scheduler, f"GPU-{number}") for number in range(4)]
    for _ in range(16):
        scheduler.queue.submit(new_job())
    together = Barrier(8)

    def claim(gpu: RegisteredGpu) -> None:
        together.wait()
        gpu.claim()

    def drain(gpu: RegisteredGpu) -> tuple[int, int]:
        together.wait()
        at_drain = len(scheduler.fleet.drain(gpu.info.id, "maintenance", "alice").leases)
        gpu.claim()
        return at_drain, len(scheduler.fleet.gpu(gpu.info.id).leases)

    with ThreadPoolExecutor(8) as threads:
        claims = [threads.submit(claim, gpu) for gpu in gpus]
        drains = [threads.submit(drain, gpu) for gpu in gpus]
        for claimed in claims:
            claimed.result()
        for drained in drains:
            at_drain, afterwards = drained.result()
            assert afterwards == at_drain
