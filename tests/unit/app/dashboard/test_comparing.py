"""Predicted beside measured, and the stages of a run."""

from dataclasses import replace

import pytest

from app.dashboard.comparing import pairs, parts
from scheduler.records import Attempt, Measured

USED = Measured(
    vram_peak_bytes=300,
    run_seconds=20.0,
    stage_seconds={"gap": 50.0, "denoising": 15.0, "encoding": 0.001, "decoding": 5.0},
)
ATTEMPT = Attempt(1, 1, "GPU-0", "w", "fp16", "s", "kind", 400, 10.0, None, 0.0, 20.0, None, USED, None)


def test_the_larger_bar_is_whole() -> None:
    seconds, memory = pairs(ATTEMPT, USED)
    assert (seconds.predicted_width, seconds.measured_width, seconds.change) == (50, 100, pytest.approx(1.0))
    assert (memory.predicted_width, memory.measured_width, memory.change) == (100, 75, pytest.approx(-0.25))


def test_what_was_not_measured_is_not_compared() -> None:
    assert [pair.name for pair in pairs(ATTEMPT, replace(USED, vram_peak_bytes=None))] == ["Run time"]


def test_stages_stand_in_the_order_of_the_run_and_fill_the_bar() -> None:
    made = parts(USED)
    assert [(part.stage, part.start, part.width) for part in made] == [("denoising", 0, 75), ("decoding", 75, 25)]
    assert parts(replace(USED, stage_seconds={})) == []
