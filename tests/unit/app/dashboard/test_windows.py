"""Spans of time by name."""

import pytest

from app.dashboard.windows import WINDOWS, window
from scheduler.errors import InvalidParameter


def test_each_is_found_by_its_name() -> None:
    assert [window(one.name) for one in WINDOWS] == list(WINDOWS)


@pytest.mark.parametrize("name", ["", "2h", "1H", "x" * 300])
def test_another_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^window must be one of 1h, 6h, 24h, 7d, 30d, not ") as refused:
        window(name)
    assert len(str(refused.value)) < 120


def test_a_longer_one_is_asked_for_less_often() -> None:
    assert [one.refresh_seconds for one in WINDOWS] == [3.0, 18.0, 60.0, 60.0, 60.0]
