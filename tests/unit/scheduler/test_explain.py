"""Explaining as a pure function: the first thing that holds a job back is the one that is told."""

from dataclasses import replace

import pytest

from scheduler.explain import QueueInfo, explain
from scheduler.footprint import Footprint
from scheduler.placement import Offer
from scheduler.records import Gpu, GpuSample, Job, OpenLease, Progress, Worker
from scheduler.states import GpuState, JobStatus, Stage
from tests.support.fleet import GIB, MODEL, PARAMS, gpu_info

BLOCK = 64 * 2**20
NOW = 1000.0
FOOTPRINT = Footprint("fp16", 6 * GIB, 4 * GIB, seconds=80.0)
JOB = Job(
    id="job_1", tenant="default", model=MODEL.id, prompt="p", params=PARAMS, metadata={}, image_key="k", priority=1.0,
    footprint=FOOTPRINT, weight=8.0, rank=1.0, status=JobStatus.QUEUED, version=(1, 0), progress=None, attempts=0,
    max_attempts=3, not_before=NOW, cancel_requested=False, gpu_id=None, measured=None, error=None, result=None,
    created_at=NOW, started_at=None, finished_at=None,
)  # fmt: skip


def offer(
    name: str = "GPU-0",
    *,
    workers: int = 1,
    ready: bool = True,
    running: tuple[float, ...] = (),
    state: GpuState = GpuState.ACTIVE,
    online: bool = True,
    sample: GpuSample | None = None,
    capacity_bytes: int = 17 * GIB,
) -> Offer:
    gpu = Gpu(
        gpu_info(name),
        state,
        None if state is GpuState.ACTIVE else "why",
        None,
        0.0,
        sample or GpuSample(0, 20 * GIB),
        NOW,
        online,
        tuple(Worker(f"w{number}", name, 1, MODEL.id, 6 * GIB, ready) for number in range(workers)),
        tuple(
            OpenLease(f"j{number}", 1, "w0", GIB, NOW, Progress(Stage.DENOISING, 0, 50, fraction))
            for number, fraction in enumerate(running)
        ),
    )
    return Offer(gpu, FOOTPRINT, capacity_bytes)


def told(*offers: Offer, job: Job = JOB, ahead: tuple[int, float] = (0, 0.0)) -> QueueInfo:
    return explain(job, offers, NOW, ahead, BLOCK)


def test_each_reason_hides_the_next() -> None:
    """From "nothing there" to "next to start", each cleared in turn."""
    full = GpuSample(20 * GIB, 4 * GIB - 1)
    waiting = replace(JOB, not_before=NOW + 5)
    small = offer(capacity_bytes=4 * GIB - 1, state=GpuState.DRAINING, online=False)
    draining = offer(state=GpuState.DRAINING, online=False)
    offline = offer(online=False, running=(0.5,), sample=full)
    busy = offer(running=(0.5,), sample=full)

    reasons = [
        told(job=waiting),
        told(small, job=waiting),
        told(draining, job=waiting),
        told(offline, job=waiting),
        told(offline),
        told(offer(sample=GpuSample(None, None, problem="lost"), running=(0.5,))),
        told(busy),
        told(offer(sample=full)),
        told(offer(sample=GpuSample(20 * GIB, 4 * GIB))),
    ]

    assert [info.wait.code for info in reasons] == [
        "no_gpu",
        "too_large",
        "draining",
        "retry_backoff",
        "no_worker",
        "memory_unknown",
        "busy",
        "no_free_memory",
        "dispatching",
    ]
    assert all("\n" not in info.wait.message for info in reasons)


def test_one_usable_gpu_is_enough() -> None:
    info = told(offer("GPU-0", state=GpuState.DRAINED), offer("GPU-1", online=False), offer("GPU-2"))

    assert info.wait.code == "dispatching"


def test_a_gpu_with_a_worker_to_spare_is_not_busy() -> None:
    assert told(offer(workers=2, running=(0.0,))).wait.code == "dispatching"


def test_the_start_is_what_is_ahead_shared_by_the_gpus_that_can() -> None:
    two = (offer("GPU-0", running=(0.5,)), offer("GPU-1", running=(0.75,)), offer("GPU-2", state=GpuState.DRAINING))

    info = told(*two, ahead=(3, 240.0))

    assert info.position == 4
    assert info.eta_seconds == pytest.approx((240 + 40 + 20) / 2)


def test_a_wait_that_is_set_is_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(offer(), job=replace(JOB, not_before=NOW + 30)).eta_seconds == 30
    assert told(offer(online=False), job=replace(JOB, not_before=NOW + 30)).eta_seconds is None
