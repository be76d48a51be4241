"""Drain orders: what is refused, and what a dry run forecasts."""

import math
from typing import Any

import pytest

from scheduler.drains import DrainOrder, DrainPreview, Ending, JobForecast, preview
from scheduler.errors import InvalidParameter
from scheduler.records import Drain, Gpu, GpuSample, OpenLease, Progress
from scheduler.states import DrainMode, GpuState, OnDeadline, Stage
from tests.support.fleet import gpu_info

NOW = 1000.0
DAYS_30 = 30 * 86_400.0


def order(**changes: Any) -> DrainOrder:
    return DrainOrder(**({"reason": "new fans", "actor": "alice"} | changes))


def running(job_id: str = "job_1", *, fraction: float = 0.5, asked: bool = False) -> OpenLease:
    """A job of 100 steps of 2 s each, started 120 s ago."""
    progress = Progress(Stage.DENOISING, int(fraction * 100), 100, fraction)
    return OpenLease(job_id, 1, "worker_1", 0, 2**30, NOW - 120, 200.0, NOW + 5, asked, NOW - 1, progress)


def gpu(*leases: OpenLease) -> Gpu:
    sample = GpuSample(0, 1)
    return Gpu(gpu_info(), GpuState.ACTIVE, None, None, 0.0, sample, NOW, True, None, None, (), leases)


def forecast(lease: OpenLease, *, saved_at: float | None = None, **changes: Any) -> JobForecast:
    saved = {} if saved_at is None else {lease.job_id: saved_at}
    (job,) = preview(gpu(lease), order(**changes), NOW, saved).jobs
    return job


def test_seconds_count_from_the_order() -> None:
    asked = order(
        mode=DrainMode.CHECKPOINT, deadline_seconds=60.0, on_deadline=OnDeadline.KILL, resume_after_seconds=90
    )
    assert asked.given_at(NOW) == Drain(DrainMode.CHECKPOINT, NOW, NOW + 60, OnDeadline.KILL, NOW + 90)
    assert order().given_at(NOW) == Drain(DrainMode.FINISH, NOW, None, OnDeadline.CHECKPOINT, None)


def test_the_reason_is_trimmed() -> None:
    assert order(reason=" new fans\n").checked() == order()


@pytest.mark.parametrize("field", ["deadline_seconds", "resume_after_seconds"])
@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, -math.inf, DAYS_30 + 1])
def test_seconds_have_limits(field: str, seconds: float) -> None:
    with pytest.raises(
        InvalidParameter, match=rf"^{field} must be more than 0 and at most 2592000 \(30 days\)"
    ) as told:
        order(**{field: seconds}).checked()
    assert told.value.field == field
    order(**{field: DAYS_30}).checked()
    order(**{field: 0.001}).checked()


@pytest.mark.parametrize("resume_after", [59.0, 60.0])
def test_a_gpu_resumes_after_its_deadline_only(resume_after: float) -> None:
    with pytest.raises(InvalidParameter, match=r"^resume_after_seconds must be more than deadline_seconds, 60"):
        order(deadline_seconds=60.0, resume_after_seconds=resume_after).checked()
    order(deadline_seconds=60.0, resume_after_seconds=61.0).checked()


@pytest.mark.parametrize("reason", ["", " \n", "x" * 501, "nul \x00"])
def test_a_reason_is_needed(reason: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^reason must"):
        order(reason=reason).checked()


def test_without_a_deadline_jobs_finish() -> None:
    assert forecast(running()) == JobForecast("job_1", Ending.FINISHES, 100.0, 0.0)


def test_a_checkpoint_stops_them_after_the_step_that_runs_and_their_run_is_lost() -> None:
    assert forecast(running(), mode=DrainMode.CHECKPOINT) == JobForecast("job_1", Ending.RELEASED, 2.0, 122.0)


def test_with_a_checkpoint_only_what_was_done_since_is_lost() -> None:
    kill = {"deadline_seconds": 50.0, "on_deadline": OnDeadline.KILL}
    assert forecast(running(), saved_at=NOW - 7, **kill) == JobForecast("job_1", Ending.KILLED, 50.0, 7.0)
    released = forecast(running(), saved_at=NOW - 7, mode=DrainMode.CHECKPOINT)
    assert released == JobForecast("job_1", Ending.RELEASED, 2.0, 0.0)
    assert forecast(running(), saved_at=NOW - 7) == JobForecast("job_1", Ending.FINISHES, 100.0, 0.0)


def test_one_that_was_asked_before_stops_whatever_is_asked_now() -> None:
    assert forecast(running(asked=True)).ending is Ending.RELEASED


def test_one_that_ends_with_its_step_finishes() -> None:
    last = forecast(running(fraction=0.995), mode=DrainMode.CHECKPOINT)
    assert (last.ending, last.lost_seconds) == (Ending.FINISHES, 0.0)
    assert last.in_seconds == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("deadline", "on_deadline", "expected"),
    [
        (100.0, OnDeadline.KILL, JobForecast("job_1", Ending.FINISHES, 100.0, 0.0)),
        (99.0, OnDeadline.KILL, JobForecast("job_1", Ending.KILLED, 99.0, 219.0)),
        (98.0, OnDeadline.CHECKPOINT, JobForecast("job_1", Ending.FINISHES, 100.0, 0.0)),
        (97.0, OnDeadline.CHECKPOINT, JobForecast("job_1", Ending.RELEASED, 99.0, 219.0)),
    ],
)
def test_a_deadline_ends_what_takes_longer(deadline: float, on_deadline: OnDeadline, expected: JobForecast) -> None:
    assert forecast(running(), deadline_seconds=deadline, on_deadline=on_deadline) == expected


def test_the_gpu_is_empty_when_its_last_job_is_gone() -> None:
    both = preview(gpu(running("job_1"), running("job_2", fraction=0.9)), order(deadline_seconds=50.0), NOW, {})
    assert both.empty_in_seconds == 52.0
    assert [(job.job_id, job.ending) for job in both.jobs] == [("job_1", "released"), ("job_2", "finishes")]
    assert preview(gpu(), order(), NOW, {}) == DrainPreview("GPU-0", 0.0, ())
