from dataclasses import replace

import pytest

from app import views
from scheduler.explain import QueueInfo, WaitReason
from scheduler.footprint import Footprint
from scheduler.params import VideoParams
from scheduler.records import Job, Progress, ServedModel
from scheduler.states import JobStatus, Stage

QUEUED = Job(
    id="job_1", tenant="default", model="m", prompt="p", params=VideoParams(512, 512, 16, 50, 9.0, 16, 7),
    metadata={}, image_key="k", priority=1.0, footprint=Footprint("fp16", 5, 7, 2.5), weight=1.5, rank=0.0,
    status=JobStatus.QUEUED, version=(1, 0), progress=None, attempts=0, max_attempts=3, not_before=0.0,
    cancel_requested=False, gpu_id=None, measured=None, error=None, result=None,
    created_at=1_795_000_000.25, started_at=None, finished_at=None,
)  # fmt: skip
PLACE = QueueInfo(3, 41.2, WaitReason("busy", "all GPUs are busy"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1970-01-01T00:00:00.000000Z"), (1_795_000_000.25, "2026-11-18T11:06:40.250000Z")],
)
def test_times_always_have_microseconds(seconds: float, text: str) -> None:
    assert views.time_text(seconds) == text


def test_a_queued_job() -> None:
    job = views.job(QUEUED, PLACE, "http://h")
    assert job.queue is not None
    assert job.queue.model_dump() == {"position": 3, "eta_seconds": 41.2, "wait_reason": "all GPUs are busy"}
    assert job.estimate.model_dump() == {"vram_bytes": 12, "seconds": 2.5, "weight": 1.5, "plan": "fp16"}
    assert job.params.model_dump() == QUEUED.params.to_dict()
    assert job.created_at == "2026-11-18T11:06:40.250000Z"


@pytest.mark.parametrize(("status", "fraction", "step"), [("queued", 0, 0), ("cancelled", 0, 0), ("succeeded", 1, 50)])
def test_progress_without_a_lease(status: str, fraction: float, step: int) -> None:
    progress = views.job(replace(QUEUED, status=JobStatus(status)), None, "").progress
    assert (progress.fraction, progress.step, progress.steps) == (fraction, step, 50)


def test_a_tag_changes_with_version_place_and_reason_but_not_with_the_eta() -> None:
    tag = views.job_etag(QUEUED, PLACE)
    assert tag == views.job_etag(QUEUED, replace(PLACE, eta_seconds=40.2))
    others = [
        views.job_etag(replace(QUEUED, version=(2, 0)), PLACE),
        views.job_etag(replace(QUEUED, version=(1, 1)), PLACE),
        views.job_etag(QUEUED, replace(PLACE, position=2)),
        views.job_etag(QUEUED, replace(PLACE, wait=WaitReason("draining", "x"))),
        views.job_etag(QUEUED, None),
    ]
    assert len({tag, *others}) == 6


def test_a_running_job_shows_its_gpu_and_step() -> None:
    running = replace(
        QUEUED, status=JobStatus.RUNNING, gpu_id="GPU-0", progress=Progress(Stage.DENOISING, 21, 50, 0.42)
    )
    job = views.job(running, None, "")
    assert (job.gpu, job.stage, job.progress.fraction, job.progress.step) == ("GPU-0", "denoising", 0.42, 21)


@pytest.mark.parametrize(
    ("model_id", "owner"), [("ali-vilab/i2vgen-xl", "ali-vilab"), ("tiny-random-noise", "reelq"), ("local", "reelq")]
)
def test_owners_of_models(model_id: str, owner: str) -> None:
    assert views.model(ServedModel(model_id, "i2vgen-xl", 1, "f")).owned_by == owner
