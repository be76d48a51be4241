"""Where an attempt's seconds went."""

import pytest

from scheduler.records import Measured
from scheduler.states import Stage
from workers.stopwatch import GAP, WAITING, Stopwatch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def measured(stopwatch: Stopwatch) -> Measured:
    return stopwatch.measured(vram_peak_bytes=None, working_peak_bytes=None, sharing=1, energy_joules=None)


def test_run_time_counts_from_the_gpu_and_stages_from_the_lease() -> None:
    clock = Clock()
    stopwatch = Stopwatch(clock)
    clock.now += 2  # fetched and prepared
    stopwatch.enter(WAITING)
    clock.now += 30  # another job has the GPU
    stopwatch.start(gap_seconds=0.25)
    stopwatch.enter(Stage.ENCODING)
    clock.now += 1
    stopwatch.enter(Stage.DENOISING)
    for _ in range(4):
        clock.now += 5
        stopwatch.stepped(5)
    stopwatch.enter(Stage.DECODING)
    clock.now += 3
    stopwatch.enter(Stage.MUXING)
    clock.now += 0.5
    result = measured(stopwatch)
    assert result.run_seconds == pytest.approx(24.5)
    assert (result.steps, result.step_seconds, result.fixed_seconds) == (4, 5, pytest.approx(4.5))
    assert result.stage_seconds == {
        "loading": 2, WAITING: 30, GAP: 0.25, "encoding": 1, "denoising": 20, "decoding": 3, "muxing": 0.5,
    }  # fmt: skip


def test_an_attempt_that_never_got_the_gpu_ran_for_no_time() -> None:
    clock = Clock()
    stopwatch = Stopwatch(clock)
    clock.now += 9
    result = measured(stopwatch)
    assert (result.run_seconds, result.steps, result.step_seconds) == (0.0, 0, None)
    assert result.stage_seconds == {"loading": 9}
