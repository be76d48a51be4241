"""What the last runs have taken, by what they computed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scheduler import measures
from scheduler.measures import Measure, Measures
from scheduler.service import Scheduler
from tests.support.databases import Clock
from tests.support.fleet import ERROR, GIB, MEASURED, MODEL, PARAMS, RESULT, RegisteredGpu, new_job, register_gpu

KIND = "NVIDIA GeForce RTX 3090"
WHOLE = replace(MEASURED, steps=50, step_seconds=0.2, fixed_seconds=2.5)

Run = Callable[..., None]


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


@pytest.fixture
def run(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> Run:
    """Run a job of `PARAMS` with changes to its end, and say what it took."""

    def run(seconds: float, peak_bytes: int | None = 7 * GIB, *, measured: Any = WHOLE, **changes: Any) -> None:
        scheduler.queue.submit(new_job(**changes))
        lease = gpu.must_claim()
        clock.advance(seconds)
        scheduler.leases.succeed(lease, RESULT, replace(measured, run_seconds=seconds, vram_peak_bytes=peak_bytes))

    return run


def measured(scheduler: Scheduler, **changes: Any) -> Measure | None:
    params = replace(PARAMS, **changes)
    return Measures(scheduler.database).of(MODEL.id, plan="fp16", gpu_kind=KIND, params=params)


def test_before_the_first_run_nothing_is_known(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    assert measured(scheduler) is None


def test_the_median_of_the_seconds_and_the_largest_peak(scheduler: Scheduler, run: Run) -> None:
    for seconds, peak_bytes in ((10.0, 7 * GIB), (30.0, None), (12.0, 8 * GIB)):
        run(seconds, peak_bytes)
    assert measured(scheduler) == Measure(jobs=3, seconds_p50=12.0, vram_peak_bytes=8 * GIB)


def test_a_peak_that_was_never_measured_is_not_known(scheduler: Scheduler, run: Run) -> None:
    run(10.0, None)
    assert measured(scheduler) == Measure(1, 10.0, None)


def test_seed_and_prompt_change_nothing(scheduler: Scheduler, run: Run) -> None:
    run(10.0, seed=8, prompt="another")
    assert measured(scheduler) == Measure(1, 10.0, 7 * GIB)


@pytest.mark.parametrize("changes", [{"width": 768}, {"num_frames": 8}, {"preset": "fast"}, {"guidance_scale": 1.0}])
def test_another_shape_is_another_measure(scheduler: Scheduler, run: Run, changes: dict[str, Any]) -> None:
    run(10.0, **changes)
    assert measured(scheduler) is None
    assert measured(scheduler, **changes) == Measure(1, 10.0, 7 * GIB)


def test_so_is_another_number_of_steps(scheduler: Scheduler, run: Run) -> None:
    run(16.0, num_inference_steps=80, measured=replace(WHOLE, steps=80))
    assert measured(scheduler) is None
    assert measured(scheduler, num_inference_steps=80) == Measure(1, 16.0, 7 * GIB)


def test_what_ran_with_others_or_only_in_part_is_left_out(scheduler: Scheduler, run: Run) -> None:
    run(20.0, measured=replace(WHOLE, sharing=2))
    run(5.0, measured=replace(WHOLE, steps=20))  # its first 30 steps were a checkpoint's
    run(5.0, measured=MEASURED)  # by a worker that does not tell its steps
    assert measured(scheduler) is None


def test_what_failed_is_left_out(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    scheduler.queue.submit(new_job())
    scheduler.leases.fail(gpu.must_claim(), ERROR)
    assert measured(scheduler) is None


def test_another_kind_of_gpu_is_another_measure(scheduler: Scheduler, run: Run) -> None:
    run(10.0)
    of = Measures(scheduler.database).of
    assert of(MODEL.id, plan="fp16", gpu_kind="NVIDIA H100", params=PARAMS) is None
    assert of(MODEL.id, plan="fp16-chunked", gpu_kind=KIND, params=PARAMS) is None
    assert of("another", plan="fp16", gpu_kind=KIND, params=PARAMS) is None


def test_only_the_newest_count(scheduler: Scheduler, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_LAST", 2)
    for seconds in (100.0, 10.0, 20.0):
        run(seconds)
    assert measured(scheduler) == Measure(2, 15.0, 7 * GIB)


def test_what_was_read_is_used_for_some_seconds(scheduler: Scheduler, run: Run) -> None:
    look = Measures(scheduler.database)
    run(10.0)
    first = look.of(MODEL.id, plan="fp16", gpu_kind=KIND, params=PARAMS)
    run(20.0)
    assert look.of(MODEL.id, plan="fp16", gpu_kind=KIND, params=PARAMS) == first
