"""Durations on the command line."""

import pytest
import typer

from app.cli.durations import seconds, with_unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90.0), ("90s", 90.0), ("0.5", 0.5), ("5m", 300.0), ("1.5h", 5400.0), ("2h", 7200.0), ("1d", 86_400.0)],
)
def test_a_number_and_a_unit(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "m", "5 minutes", "five", "0", "0h", "-5m", "nan", "inf", "infd", "5M", "1h30m"])
def test_anything_else_is_refused(text):
    with pytest.raises(typer.BadParameter, match="no duration"):
        seconds(text)


def test_a_unit_may_be_asked_for():
    assert with_unit("5d") == 432_000.0
    with pytest.raises(typer.BadParameter, match="'5' has no unit: say 5s, 5m, 5h or 5d"):
        with_unit("5")
    with pytest.raises(typer.BadParameter, match="no duration"):
        with_unit("soon")
