from dataclasses import replace

import pytest

from app import views
from app.schemas import ImageLimits
from scheduler.events import Event
from scheduler.explain import QueueInfo
from scheduler.footprint import Footprint
from scheduler.outlook import Span
from scheduler.params import VideoParams
from scheduler.records import Job, Measured, Notice, Progress, Result, ServedModel
from scheduler.states import JobStatus, Stage
from scheduler.waits import Blocker, WaitReason

QUEUED = Job(
    id="job_1", tenant="default", gate="", model="m", prompt="p", params=VideoParams(512, 512, 16, 50, 9.0, 16, 7),
    metadata={}, image_key="k", priority=1.0, footprint=Footprint("fp16", 5, 7, 2.5), plan_reason="it fits",
    weight=1.5,
    virtual_at=1_795_000_000.25, rank=0.0, memory_class=1, status=JobStatus.QUEUED, version=(1, 0), progress=None,
    attempts=0, max_attempts=3, not_before=0.0, ready_at=1_795_000_000.25,
    cancel_requested=False, deadline_at=None, retry_of=None, webhook_url=None, webhook_events=(),
    result_ttl_seconds=None, window=None, gpu_id=None, gpu_name=None, gpu_kind=None,
    resumed_from_step=None, checkpoint_step=None, notices=(),
    measured=None, error=None, result=None,
    created_at=1_795_000_000.25, started_at=None, finished_at=None,
)  # fmt: skip
BUSY = WaitReason(Blocker.BUSY, "all GPUs are busy", "one is free", {"ahead": 2, "start_at": 1_795_000_000.25})
IMAGE = ImageLimits(formats=["PNG"], max_bytes=1000, max_pixels=400, min_side=16, max_side=20)
PLACE = QueueInfo(3, True, BUSY, 41.2, Span(1_795_000_000.25, 1_795_000_001.25), Span(1e9, 1e13))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1970-01-01T00:00:00.000000Z"), (1_795_000_000.25, "2026-11-18T11:06:40.250000Z")],
)
def test_times_always_have_microseconds(seconds: float, text: str) -> None:
    assert views.time_text(seconds) == text


def test_a_queued_job() -> None:
    job = views.job(QUEUED, PLACE, "http://h")
    assert job.queue is not None
    assert job.queue.model_dump() == {
        "position": 3,
        "position_exact": True,
        "eta_seconds": 41.2,
        "wait_reason": "all GPUs are busy",
        "wait": {
            "code": "busy",
            "details": {"ahead": 2, "start_at": "2026-11-18T11:06:40.250000Z"},
            "clears_when": "one is free",
        },
        "expected_start": {"p50": "2026-11-18T11:06:40.250000Z", "p90": "2026-11-18T11:06:41.250000Z"},
        "expected_finish": {"p50": "2001-09-09T01:46:40.000000Z", "p90": "9999-12-31T00:00:00.000000Z"},
    }
    assert job.estimate.model_dump() == {
        "vram_bytes": 12,
        "seconds": 2.5,
        "weight": 1.5,
        "plan": "fp16",
        "plan_reason": "it fits",
    }
    assert job.params.model_dump() == QUEUED.params.to_dict()
    assert job.created_at == "2026-11-18T11:06:40.250000Z"


def test_an_earliest_start_is_shown_while_it_holds_the_job_back() -> None:
    assert views.job(QUEUED, PLACE, "").not_before is None
    deferred = replace(QUEUED, not_before=1_800_000_000.0)
    assert views.job(deferred, PLACE, "").not_before == "2027-01-15T08:00:00.000000Z"
    cancelled = replace(deferred, status=JobStatus.CANCELLED)
    assert views.job(cancelled, None, "").not_before is None


@pytest.mark.parametrize(("status", "fraction", "step"), [("queued", 0, 0), ("cancelled", 0, 0), ("succeeded", 1, 50)])
def test_progress_without_a_lease(status: str, fraction: float, step: int) -> None:
    progress = views.job(replace(QUEUED, status=JobStatus(status)), None, "").progress
    assert (progress.fraction, progress.step, progress.steps) == (fraction, step, 50)


def test_a_tag_changes_with_version_place_and_reason_but_not_with_the_eta() -> None:
    tag = views.job_etag(QUEUED, PLACE)
    assert tag == views.job_etag(QUEUED, replace(PLACE, eta_seconds=40.2, start=Span(1.0, 2.0), finish=None))
    others = [
        views.job_etag(replace(QUEUED, version=(2, 0)), PLACE),
        views.job_etag(replace(QUEUED, version=(1, 1)), PLACE),
        views.job_etag(QUEUED, replace(PLACE, position=2)),
        views.job_etag(QUEUED, replace(PLACE, wait=replace(BUSY, code=Blocker.DRAINING))),
        views.job_etag(QUEUED, None),
    ]
    assert len({tag, *others}) == 6


def test_a_running_job_shows_its_gpu_and_step() -> None:
    running = replace(
        QUEUED, status=JobStatus.RUNNING, gpu_id="GPU-0", progress=Progress(Stage.DENOISING, 21, 50, 0.42)
    )
    job = views.job(running, None, "")
    assert (job.gpu, job.stage, job.progress.fraction, job.progress.step) == ("GPU-0", "denoising", 0.42, 21)


def test_what_a_job_went_on_from_and_has_to_say() -> None:
    told = (Notice(1_795_000_000.25, "out_of_memory", "goes on from step 12 with plan fp16-chunked"),)
    job = views.job(replace(QUEUED, resumed_from_step=8, checkpoint_step=12, notices=told), PLACE, "")
    assert (job.resumed_from_step, job.checkpoint_step) == (8, 12)
    (notice,) = job.notices
    assert notice.model_dump() == {
        "at": "2026-11-18T11:06:40.250000Z",
        "code": "out_of_memory",
        "message": "goes on from step 12 with plan fp16-chunked",
    }


def test_what_is_not_known_of_an_attempt_is_null() -> None:
    ended = replace(
        QUEUED,
        status=JobStatus.SUCCEEDED,
        measured=Measured(vram_peak_bytes=None, run_seconds=3.5),
        started_at=QUEUED.created_at + 1,
    )
    measured = views.job(ended, None, "").measured
    assert measured is not None
    known = {name: value for name, value in measured.model_dump().items() if value is not None}
    assert known == {"run_seconds": 3.5, "queue_seconds": 1.0, "sharing": 1}


def test_a_job_without_a_preview_has_no_address_of_one() -> None:
    result = Result("v", "t", 1, "0" * 64, 512, 512, 16, 8, 2.0)
    for key, url in ((None, None), ("p", "http://h/v1/jobs/job_1/preview")):
        ended = replace(QUEUED, status=JobStatus.SUCCEEDED, result=replace(result, preview_key=key))
        video = views.job(ended, None, "http://h").video
        assert video is not None
        assert video.preview_url == url


def test_a_job_says_what_is_told_of_it_and_how_long_its_video_is_kept() -> None:
    job = views.job(replace(QUEUED, webhook_events=("job.failed",), result_ttl_seconds=3600.0), PLACE, "")
    assert (job.webhook_events, job.result_ttl_seconds) == (["job.failed"], 3600.0)


def test_times_in_an_events_data_are_times() -> None:
    data = {"expires_at": 1_795_000_000.25, "deadline_at": None, "not_before": 0.0, "state": "drained", "step": 0}
    told = views.event(Event(1, 1_795_000_000.25, "key.created", "key_1", None, None, data)).data
    assert told == {
        "expires_at": "2026-11-18T11:06:40.250000Z",
        "deadline_at": None,
        "not_before": None,
        "state": "drained",
        "step": 0,
    }


def test_a_model_says_why_it_is_held() -> None:
    model = views.model(ServedModel("m", "i2vgen-xl", 1, "f", held="three runs failed"), [], IMAGE)
    assert model.held == "three runs failed"


@pytest.mark.parametrize(
    ("model_id", "owner"), [("ali-vilab/i2vgen-xl", "ali-vilab"), ("tiny-random-noise", "reelq"), ("local", "reelq")]
)
def test_owners_of_models(model_id: str, owner: str) -> None:
    assert views.model(ServedModel(model_id, "i2vgen-xl", 1, "f"), [], IMAGE).owned_by == owner
