"""Every queued job can say why it waits; each reason is asked for here, with its numbers."""

import pytest

from scheduler.explain import QueueInfo
from scheduler.records import GpuSample, Worker
from scheduler.service import Scheduler
from tests.support.databases import Clock
from tests.support.fleet import (
    ERROR,
    GIB,
    HALF_WAY,
    MODEL,
    RegisteredGpu,
    demand_bytes,
    gpu_info,
    new_job,
    register_gpu,
)


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job(id="job_1"))
    return gpu


def explained(scheduler: Scheduler, job_id: str = "job_1") -> QueueInfo:
    info = scheduler.queue.explain(scheduler.queue.get(job_id))
    assert info is not None
    return info


def test_next_to_start(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    info = explained(scheduler)

    assert (info.position, info.eta_seconds) == (1, 0.0)
    assert (info.wait.code, info.wait.message) == ("dispatching", "next to start")


def test_the_place_in_the_queue_and_the_time_until_it_starts(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    scheduler.queue.submit(new_job(id="job_2", priority=0.9))
    job = scheduler.queue.submit(new_job(id="job_3", priority=0.8)).job
    lease = gpu.must_claim()
    scheduler.leases.report(lease, HALF_WAY)

    info = explained(scheduler, "job_3")

    assert info.position == 2
    assert info.eta_seconds == pytest.approx(1.5 * job.footprint.seconds)
    assert info.wait.code == "busy"
    assert info.wait.message == "all GPUs that fit are busy with 1 running, 1 queued ahead"


def test_two_gpus_halve_the_wait(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    register_gpu(scheduler, "GPU-1")
    job = scheduler.queue.submit(new_job(id="job_2", priority=0.9)).job

    assert explained(scheduler, "job_2").eta_seconds == pytest.approx(job.footprint.seconds / 2)


def test_no_gpu(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    clock.advance(86_401)

    info = explained(scheduler)

    assert (info.wait.code, info.eta_seconds) == ("no_gpu", None)


def test_too_large(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    scheduler.fleet.register(MODEL, [gpu_info(total_bytes=8 * GIB)])

    info = explained(scheduler)

    assert (info.wait.code, info.eta_seconds) == ("too_large", None)
    assert "offers 7.00 GiB, 1.00 GiB of it beside the resident model" in info.wait.message


def test_draining(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    scheduler.fleet.drain("GPU-0", "new fan", "alice")

    info = explained(scheduler)

    assert (info.wait.code, info.wait.message) == ("draining", "GPU GPU-0 is draining (new fan)")
    assert info.eta_seconds is None


def test_faulted(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    scheduler.fleet.fault("GPU-0", "Xid 79")

    assert explained(scheduler).wait.message == "GPU GPU-0 is faulted (Xid 79)"


def test_retry_backoff(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    scheduler.leases.retry(gpu.must_claim(), ERROR)
    wait = scheduler.queue.get("job_1").not_before - clock.seconds

    info = explained(scheduler)

    assert info.wait.code == "retry_backoff"
    assert info.wait.message == f"not before {wait:.1f} s from now, after attempt 1"
    assert info.eta_seconds == pytest.approx(wait)
    clock.advance(wait)
    assert explained(scheduler).wait.code == "dispatching"


def test_no_worker(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    loading = Worker(gpu.workers[0], "GPU-0", 4711, MODEL.id, 6 * GIB, ready=False)
    scheduler.fleet.register_worker(loading)
    assert explained(scheduler).wait.code == "no_worker"
    assert explained(scheduler).wait.message == f"no worker is ready for {MODEL.id}: GPU GPU-0 is loading it"

    scheduler.fleet.worker_gone(loading.id)
    assert explained(scheduler).wait.message.endswith("GPU GPU-0 has no worker for it")

    clock.advance(11)
    assert explained(scheduler).wait.message.endswith("GPU GPU-0 is offline")
    assert explained(scheduler).eta_seconds is None


def test_memory_unknown(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    scheduler.fleet.sample("GPU-0", GpuSample(None, None, problem="GPU is lost"))

    info = explained(scheduler)

    assert (info.wait.code, info.wait.message) == ("memory_unknown", "GPU-0: GPU is lost")


def test_not_measured_yet(scheduler: Scheduler) -> None:
    scheduler.fleet.register(MODEL, [gpu_info()])
    gpu = RegisteredGpu(scheduler, gpu_info())
    gpu.add_worker()
    scheduler.queue.submit(new_job(id="job_1"))

    assert explained(scheduler).wait.message == "GPU-0: not measured yet"


@pytest.mark.parametrize(("short_by", "code"), [(0, "dispatching"), (1, "no_free_memory")])
def test_no_free_memory(scheduler: Scheduler, gpu: RegisteredGpu, short_by: int, code: str) -> None:
    need = demand_bytes(scheduler.queue.get("job_1"))
    scheduler.fleet.sample("GPU-0", GpuSample(20 * GIB, need - short_by))

    info = explained(scheduler)

    assert info.wait.code == code
    if short_by:
        assert info.wait.message.startswith(f"needs {need / GIB:.2f} GiB beside the resident model")


def test_only_a_queued_job_waits(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    gpu.must_claim()

    assert scheduler.queue.explain(scheduler.queue.get("job_1")) is None
