from dataclasses import replace
from typing import Any

import pytest

from app import videos
from app.schemas import VideoFields
from scheduler import catalog
from scheduler.errors import InvalidParameter
from scheduler.footprint import Footprint
from scheduler.params import VideoParams
from scheduler.records import Job, JobError, Progress, Result
from scheduler.states import JobStatus, Stage

XL = catalog.architecture(catalog.I2VGEN_XL)  # 2 to 64 frames, 1 to 60 a second; 16 and 16 by default
JOB = Job(
    id="job_1", tenant="default", gate="", model="m", prompt="p", params=VideoParams(512, 320, 16, 50, 9.0, 16, 7),
    metadata={}, image_key="k", priority=1.0, footprint=Footprint("fp16", 5, 7, 20.0), plan_reason="it fits",
    weight=1.5, virtual_at=100.0, rank=0.0, memory_class=1, status=JobStatus.QUEUED, version=(1, 0), progress=None,
    attempts=0, max_attempts=3, not_before=0.0, ready_at=100.0, cancel_requested=False, deadline_at=None, retry_of=None,
    webhook_url=None, webhook_events=(), result_ttl_seconds=None, window=None, gpu_id=None, gpu_name=None,
    gpu_kind=None, resumed_from_step=None,
    checkpoint_step=None, notices=(), measured=None, error=None, result=None,
    created_at=1_795_000_000.75, started_at=None, finished_at=None,
)  # fmt: skip
HALF_WAY = Progress(Stage.DENOISING, step=25, steps=50, fraction=0.499)
RUNNING = replace(JOB, status=JobStatus.RUNNING, progress=HALF_WAY, started_at=1_795_000_001.0)
ENDED = replace(JOB, started_at=1_795_000_001.0, finished_at=1_795_000_009.9)
RESULT = Result("v", "t", 1, "0", 512, 320, 16, 16, 1.0, expires_at=1_795_000_500.5)


def fields(**given: Any) -> VideoFields:
    return VideoFields.model_validate({"prompt": "p"} | given)


def test_a_queued_job_has_every_field_of_openais_object() -> None:
    assert videos.video(JOB).model_dump() == {
        "id": "job_1",
        "object": "video",
        "model": "m",
        "status": "queued",
        "progress": 0,
        "created_at": 1_795_000_000,
        "completed_at": None,
        "expires_at": None,
        "error": None,
        "prompt": "p",
        "remixed_from_video_id": None,
        "seconds": "1",
        "size": "512x320",
    }


def test_a_running_job_is_in_progress() -> None:
    video = videos.video(RUNNING)
    assert (video.status, video.progress, video.completed_at) == ("in_progress", 49, None)


def test_a_job_that_has_succeeded_is_completed_and_says_when_its_files_go() -> None:
    video = videos.video(replace(ENDED, status=JobStatus.SUCCEEDED, result=RESULT))
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert (video.completed_at, video.expires_at) == (1_795_000_009, 1_795_000_500)


def test_a_job_that_has_failed_says_why() -> None:
    video = videos.video(replace(ENDED, status=JobStatus.FAILED, error=JobError("out_of_memory", "it is too large")))
    assert video.status == "failed"
    assert video.error is not None
    assert video.error.model_dump() == {"code": "out_of_memory", "message": "it is too large"}


def test_a_cancelled_job_is_failed_because_clients_know_no_other_end() -> None:
    video = videos.video(replace(ENDED, status=JobStatus.CANCELLED))
    assert video.status == "failed"
    assert video.error is not None
    assert video.error.code == "cancelled"


def test_the_length_is_that_of_the_clip() -> None:
    assert videos.video(replace(JOB, params=replace(JOB.params, target_fps=12))).seconds == "1.333"


@pytest.mark.parametrize(
    ("job", "eta_seconds", "expected"),
    [
        (JOB, 0.0, 2000),  # a tenth of its 20 seconds
        (JOB, 10.0, 3000),
        (JOB, 1e9, 5000),
        (JOB, None, 5000),  # nobody can tell
        (RUNNING, 0.0, 1002),
        (replace(JOB, footprint=Footprint("fp16", 5, 7, 0.1)), 0.0, 250),
        (replace(RUNNING, progress=None), 0.0, 2000),
    ],
)
def test_the_pause_between_polls_follows_what_is_left_to_wait(
    job: Job, eta_seconds: float | None, expected: int
) -> None:
    assert videos.poll_after_ms(job, eta_seconds) == expected


def test_a_size_is_a_width_and_a_height() -> None:
    asked = videos.job_fields(fields(size="1280x720"), XL)
    assert (asked.width, asked.height, asked.num_frames) == (1280, 720, None)


@pytest.mark.parametrize("size", ["", "512", "512X512", "512x", "x512", "512x512x16", "-512x512", " 512x512", "9" * 30])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(InvalidParameter, match="WIDTHxHEIGHT") as refused:
        videos.job_fields(fields(size=size), XL)
    assert refused.value.field == "size"


@pytest.mark.parametrize(
    ("given", "frames", "rate"),
    [
        ({"seconds": "1"}, 16, 16),
        ({"seconds": "4"}, 64, 16),  # as many as the model has
        ({"seconds": "8"}, 64, 8),  # more time than it has frames for at its usual rate
        ({"seconds": "12"}, 60, 5),
        ({"seconds": "64"}, 64, 1),
        ({"seconds": "0.05"}, 2, 40),  # less than two frames take at its usual rate
        ({"seconds": 2}, 32, 16),
        ({"seconds": 1.5}, 24, 16),
        ({"seconds": "4", "target_fps": 4}, 16, 4),
        ({"seconds": "1", "target_fps": 60}, 60, 60),
    ],
)
def test_seconds_become_frames_within_the_models_limits(given: dict[str, Any], frames: int, rate: int) -> None:
    asked = videos.job_fields(fields(**given), XL)
    assert (asked.num_frames, asked.target_fps) == (frames, rate)


def test_every_length_in_the_limits_gives_frames_and_a_rate_in_theirs() -> None:
    for hundredths in range(4, 6401):
        asked = videos.job_fields(fields(seconds=f"{hundredths / 100:.2f}"), XL)
        assert asked.num_frames is not None
        assert asked.target_fps is not None
        XL.limits.num_frames.check("num_frames", asked.num_frames)
        XL.limits.target_fps.check("target_fps", asked.target_fps)


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"seconds": "0"}, "seconds", "from 0.0333 to 64"),
        ({"seconds": "65"}, "seconds", "from 0.0333 to 64"),
        ({"seconds": -1.0}, "seconds", "from 0.0333"),
        ({"seconds": "8", "target_fps": 16}, "seconds", "from 0.125 to 4 at 16 frames per second, not 8"),
        ({"seconds": "four"}, "seconds", "number of seconds"),
        ({"seconds": "-4"}, "seconds", "number of seconds"),
        ({"seconds": "1e1"}, "seconds", "number of seconds"),
        ({"seconds": "1", "target_fps": 0}, "target_fps", "from 1 to 60"),
        ({"seconds": "1", "num_frames": 16}, "seconds", "num_frames"),
        ({"size": "512x512", "width": 512}, "size", "width"),
        ({"size": "512x512", "height": 512}, "size", "height"),
    ],
)
def test_what_has_no_meaning_is_refused(given: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words) as refused:
        videos.job_fields(fields(**given), XL)
    assert refused.value.field == field


def test_every_other_field_is_the_jobs() -> None:
    asked = videos.job_fields(fields(seed=7, num_inference_steps=9, metadata={"a": "b"}, priority=2.0), XL)
    assert (asked.prompt, asked.seed, asked.num_inference_steps) == ("p", 7, 9)
    assert (asked.metadata, asked.priority) == ({"a": "b"}, 2.0)
    assert asked.model_fields_set == {"prompt", "seed", "num_inference_steps", "metadata", "priority"}


def test_names_in_brackets_are_objects_and_lists() -> None:
    plain, nested = videos.unbracketed(
        [("prompt", "p"), ("metadata[a]", "1"), ("events[]", "x"), ("metadata[b c]", "2"), ("events[]", "y")]
    )
    assert plain == [("prompt", "p")]
    assert nested == {"metadata": {"a": "1", "b c": "2"}, "events": ["x", "y"]}


@pytest.mark.parametrize(
    "names",
    [
        ["metadata[a]", "metadata[a]"],
        ["metadata[a]", "metadata[]"],
        ["metadata[]", "metadata[a]"],
        ["metadata", "metadata[a]"],
        ["metadata[a]", "metadata"],
    ],
)
def test_what_is_given_twice_is_refused(names: list[str]) -> None:
    with pytest.raises(InvalidParameter, match="only once"):
        videos.unbracketed([(name, "x") for name in names])


@pytest.mark.parametrize("name", ["a[b][c]", "[a]", "A[b]", "a[b", "a]b["])
def test_other_brackets_are_plain_names(name: str) -> None:
    assert videos.unbracketed([(name, "x")]) == ([(name, "x")], {})
