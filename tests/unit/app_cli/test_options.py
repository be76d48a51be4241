"""Numbers as options take them."""

import pytest
import typer

from app.cli.options import number, whole_number


def test_numbers():
    assert (number("1.5"), whole_number("7")) == (1.5, 7)


@pytest.mark.parametrize("text", ["", "high", "nan", "inf"])
def test_no_number(text):
    with pytest.raises(typer.BadParameter, match=f"must be a number, not '{text}'"):
        number(text)


def test_no_whole_number():
    with pytest.raises(typer.BadParameter, match=r"must be a whole number, not '1\.5'"):
        whole_number("1.5")
