"""The report on the schedules."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.schedule.__main__ import main
from benchmarks.schedule.contestants import BOUND, STRICT
from benchmarks.schedule.outcome import medians
from benchmarks.schedule.report import markdown

FIFO: dict[str, Any] = {
    "busy": 0.8,
    "capacity": 0.75,
    "videos_per_gpu_hour": 70.0,
    "wait_mean": 100.0,
    "wait_p95": 400.0,
    "wait_max": 500.0,
    "slowdown": 9.0,
    "largest_wait_p95": None,
    "small_wait_p95": 300.0,
    "out_of_memory": 0,
    "never_ran": 0,
}
POLICIES = {
    "reelq": {"median": FIFO | {"wait_mean": 50.0, "wait_p95": 500.0, "largest_wait_p95": 20.0}},
    STRICT: {"median": FIFO},
    BOUND: {"median": {"capacity": 0.9, "videos_per_gpu_hour": 90.0}},
}
RESULTS: dict[str, Any] = {
    "arrivals": "drawn",
    "jobs": 1000,
    "streams": 3,
    "seed": 1,
    "fleet": ["card", "card", "other card"],
    "mix": {"512x512x16": 1.0},
    "loads": {"0.9": POLICIES},
}


def test_each_policy_is_put_in_proportion_to_fifo() -> None:
    told = markdown(RESULTS)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines() if line.startswith("| ")]
    found = {row[0]: row[1:] for row in rows}
    assert found["reelq"][3:8] == ["50 s", "0.50", "500 s", "1.25", "500 s"]
    assert found["reelq"][9] == "20 s"
    assert found[STRICT][3:7] == ["100 s", "1.00", "400 s", "1.00"]
    assert found[STRICT][9] == "-"
    assert found[BOUND][:3] == ["-", "90%", "90.0"]
    assert "## Load 0.9" in told


def test_the_composite_is_called_that() -> None:
    told = markdown(RESULTS)
    assert "A composite, in virtual time" in told
    assert "2 x card, 1 x other card" in told
    assert "times and users are those of a recording" in markdown(RESULTS | {"arrivals": "requests.csv"})


def test_a_median_leaves_out_streams_without_the_figure() -> None:
    assert medians([{"a": 1.0, "b": None}, {"a": 3.0, "b": 5.0}, {"a": 2.0, "b": None}]) == {"a": 2.0, "b": 5.0}
    assert medians([{"b": None}]) == {"b": None}


def test_a_recording_that_cannot_be_read_ends_it_with_a_message(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"--arrivals: .*nowhere"):
        main(["--quick", "--arrivals", str(tmp_path / "nowhere.csv")])


def test_too_few_jobs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--jobs", "5"])
    assert "--jobs must be at least 20" in capsys.readouterr().err
