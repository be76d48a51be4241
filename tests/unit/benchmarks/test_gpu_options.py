"""What `make bench-gpu` measures, by its command line."""

import pytest

from benchmarks.gpu.options import PARTS, parse
from benchmarks.gpu.rows import TABLE, small
from scheduler.plans import PLANS


def test_by_default_everything_is_measured_and_kept() -> None:
    options = parse([])
    assert options.parts == PARTS
    assert options.rows == tuple(row.name for row in TABLE)
    assert options.plans == tuple(PLANS)
    assert options.budget_seconds == float("inf")
    assert options.output is not None
    assert options.output.name == "results"


def test_quick_is_one_row_once_and_leaves_no_file() -> None:
    options = parse(["--quick"])
    assert (options.rows, options.repeats, options.output) == (("512p/16/50",), 1, None)


def test_the_command_line_narrows_it() -> None:
    options = parse(["--no-peer", "--rows", "768p/24/50", "--plans", "fp16-chunked", "fp16", "--budget-seconds", "90"])
    assert "peer" not in options.parts
    assert options.rows == ("768p/24/50",)
    assert options.plans == ("fp16", "fp16-chunked")  # in the order of the plans, the fastest first
    assert options.budget_seconds == 90


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--rows", "4320p/1/1"])
    assert "invalid choice" in capsys.readouterr().err


def test_small_rows_are_the_same_in_proportion_and_within_the_tiny_models_limits() -> None:
    shapes = [small(row).shape for row in TABLE]
    assert [(shape.width, shape.num_frames) for shape in shapes] == [(64, 4), (96, 4), (96, 6), (96, 6), (128, 8)]
    assert [small(row).steps for row in TABLE] == [25, 25, 25, 40, 40]
