"""A run of the benchmark keeps going, and says what it left out."""

from typing import Any

import pytest

from benchmarks.gpu.session import Session


def test_what_is_measured_is_returned() -> None:
    session = Session(60.0, lambda _results: None)
    assert session.measure("something", lambda: 7) == 7
    assert session.results["not_run"] == []


def test_a_failure_is_noted_and_the_rest_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(60.0, lambda _results: None)

    def fail() -> None:
        raise ValueError("it broke\nin two lines")

    assert session.measure("something", fail) is None
    assert session.measure("something else", lambda: 7) == 7
    assert session.results["not_run"] == [
        {"what": "something", "why": "failed with ValueError: it broke in two lines"},
    ]
    assert "Traceback" in capsys.readouterr().err


def test_nothing_is_started_once_the_budget_is_used_up() -> None:
    session = Session(-1.0, lambda _results: None)
    assert session.measure("something", lambda: 7) is None
    (noted,) = session.results["not_run"]
    assert noted["what"] == "something"
    assert "was used up" in noted["why"]


def test_what_was_measured_is_kept_before_the_next() -> None:
    kept: list[dict[str, Any]] = []
    session = Session(60.0, lambda results: kept.append(dict(results)))
    session.results["first"] = session.measure("something", lambda: 7)
    session.measure("something else", lambda: 8)
    assert kept[-1]["first"] == 7
