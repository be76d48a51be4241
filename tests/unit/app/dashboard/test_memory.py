"""A GPU's memory as a bar."""

from dataclasses import replace

import pytest

from app.dashboard.memory import segments
from scheduler.records import Gpu, GpuSample, OpenLease, Progress, Worker
from scheduler.states import GpuState, Stage
from tests.support.fleet import GIB, gpu_info

INFO = gpu_info(total_bytes=24 * GIB, headroom_bytes=2 * GIB)
WORKER = Worker("worker_1", INFO.id, 1, "i2vgen", 6 * GIB, True)
EMPTY = Gpu(INFO, GpuState.ACTIVE, None, None, 0.0, GpuSample(0, 24 * GIB), 0.0, True, None, None, (), ())


def lease(job_id: str, lane: int, size: int) -> OpenLease:
    progress = Progress(Stage.DENOISING, 0.5, 25, 50)
    return OpenLease(job_id, 1, "worker_1", lane, size, 0.0, 10.0, 20.0, False, 0.0, progress)


def bar(gpu: Gpu) -> list[tuple[str, float]]:
    return [(part.kind, part.number_of_bytes / GIB) for part in segments(gpu)]


def test_an_idle_gpu_is_free_but_for_its_headroom() -> None:
    assert bar(EMPTY) == [("free", 22), ("headroom", 2)]


def test_models_jobs_and_others_stand_in_front() -> None:
    gpu = replace(
        EMPTY,
        workers=(WORKER,),
        leases=(lease("job_1", 0, 4 * GIB), lease("job_2", 0, 3 * GIB), lease("job_3", 1, GIB)),
        sample=GpuSample(8 * GIB, 16 * GIB, foreign_bytes=2 * GIB),
    )
    assert bar(gpu) == [("model", 6), ("job", 4), ("job", 1), ("foreign", 2), ("free", 9), ("headroom", 2)]
    assert segments(gpu)[1].words == "jobs job_1, job_2", "jobs of one lane count once"
    assert sum(part.width for part in segments(gpu)) == pytest.approx(100, abs=0.1)


def test_a_gpu_that_others_have_filled_is_shown_whole() -> None:
    gpu = replace(EMPTY, workers=(WORKER,), sample=GpuSample(24 * GIB, 0, foreign_bytes=20 * GIB))
    parts = segments(gpu)
    assert bar(gpu) == [("model", 6), ("foreign", 20)]
    assert parts[-1].start + parts[-1].width == pytest.approx(100, abs=0.1)
