"""What a job says of its owner, its time limits and what it cost."""

from dataclasses import replace

import pytest

from app import views
from scheduler.prices import Price, Prices
from scheduler.records import Job, Measured, Result
from scheduler.states import JobStatus
from tests.unit.app.test_views import QUEUED

RESULT = Result("v", "t", 1, "0" * 64, 512, 512, 16, 8, 2.0)


def ended(**changes: object) -> Job:
    succeeded = replace(QUEUED, status=JobStatus.SUCCEEDED, started_at=QUEUED.created_at + 1, result=RESULT)
    return replace(succeeded, **changes)


def test_whose_it_is_and_what_was_asked_of_it() -> None:
    asked = replace(QUEUED, tenant="studio", retry_of="job_0", webhook_url="https://h/", deadline_at=1_795_000_060.25)
    job = views.job(asked, None, "")
    assert (job.tenant, job.retry_of, job.webhook_url) == ("studio", "job_0", "https://h/")
    assert job.deadline == "2026-11-18T11:07:40.250000Z"


@pytest.mark.parametrize(("price", "sharing", "cost"), [(None, 1, None), (0.0, 1, 0.0), (3.6, 1, 0.5), (3.6, 2, 0.25)])
def test_a_jobs_cost_is_its_share_of_the_gpus_time(price: float | None, sharing: int, cost: float | None) -> None:
    used = Measured(vram_peak_bytes=None, run_seconds=500.0, sharing=sharing)
    prices = Prices(None if price is None else Price(price))
    measured = views.job(ended(measured=used), None, "", prices).measured
    assert measured is not None
    assert measured.cost == (None if cost is None else pytest.approx(cost))


@pytest.mark.parametrize("name", ["GPU-7", "NVIDIA L4", "nvidia-l4-24gb"])
def test_a_gpus_own_price_counts_before_that_of_any(name: str) -> None:
    used = Measured(vram_peak_bytes=None, run_seconds=3600.0)
    job = ended(measured=used, gpu_id="GPU-7", gpu_name="NVIDIA L4", gpu_kind="nvidia-l4-24gb")
    measured = views.job(job, None, "", Prices(Price(1.0), {name: Price(0.5)})).measured
    assert measured is not None
    assert measured.cost == pytest.approx(0.5)


def test_a_video_says_until_when_it_is_there() -> None:
    until = QUEUED.created_at + 60
    for result, expected in (
        (RESULT, (None, False)),
        (replace(RESULT, expires_at=until), ("2026-11-18T11:07:40.250000Z", False)),
        (replace(RESULT, expires_at=until, expired=True), ("2026-11-18T11:07:40.250000Z", True)),
    ):
        video = views.job(ended(result=result), None, "http://h").video
        assert video is not None
        assert (video.expires_at, video.expired) == expected
        assert (video.url, video.sha256) == ("http://h/v1/jobs/job_1/video", "0" * 64), "what is known of it stays"
