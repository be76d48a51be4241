"""The targets of the HTTP benchmark, and results that are measured in parts."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.http import report
from benchmarks.http.options import PARTS, parse


def rates(ours: float, bare: float) -> dict[str, Any]:
    return {
        "reelq": {"1": {"per_second": ours / 2}, "8": {"per_second": ours}},
        "bare FastAPI": {"1": {"per_second": bare}, "8": {"per_second": bare / 2}},
    }


def met(parts: dict[str, Any]) -> list[bool]:
    targets = report.targets({name: {"results": results} for name, results in parts.items()})
    return [target["met"] for target in targets]


@pytest.mark.parametrize(
    ("ours", "bare", "is_met"), [(659, 500, False), (661, 500, True), (700, 2000, False), (1200, 2000, True)]
)
def test_submits_must_reach_the_higher_of_two_rates(ours: float, bare: float, is_met: bool) -> None:
    form = rates(ours, bare) | {"bare FastAPI, images": {"8": {"per_second": ours}}}
    assert met({"submits": {"form": form}}) == [is_met, True]


@pytest.mark.parametrize(("ours", "is_met"), [(599, False), (600, True)])
def test_submits_are_also_held_against_the_image_work_alone(ours: float, is_met: bool) -> None:
    form = rates(ours, 3000) | {"bare FastAPI, images": {"1": {"per_second": 900}, "8": {"per_second": 1000}}}
    assert met({"submits": {"form": form}}) == [False, is_met]


def test_the_best_of_ours_counts_whatever_its_processes() -> None:
    queued = rates(500, 1000) | {"reelq, 2 processes": {"8": {"per_second": 900}}}
    assert met({"polls": {"queued": queued}}) == [True]


def test_polls_are_held_against_the_bare_application() -> None:
    assert met({"polls": {"queued": rates(699, 1000), "succeeded": rates(700, 1000)}}) == [False, True]


def test_waiting_clients_may_cost_memory_and_no_polls() -> None:
    one = {"clients": 1000, "memory_mb": 99.0, "polls_ratio": 0.94}
    assert met({"waiting": {"one job": one, "a job each": {"clients": 1000, "memory_mb": 101.0}}}) == [
        True,
        False,
        False,
    ]


def test_parts_that_were_measured_before_stay(tmp_path: Path) -> None:
    assert report.stored(tmp_path) == {"parts": {}}
    assert report.stored(None) == {"parts": {}}
    (tmp_path / "http.json").write_text(json.dumps({"parts": {"polls": {}}}))
    assert report.stored(tmp_path) == {"parts": {"polls": {}}}


def test_parts_are_named_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--parts", "polls,submits"]).parts == ("polls", "submits")
    assert parse([]).parts == PARTS
    assert parse(["--quick"]).output is None
    with pytest.raises(SystemExit):
        parse(["--parts", "polls,coffee"])
    assert "'coffee'" in capsys.readouterr().err
