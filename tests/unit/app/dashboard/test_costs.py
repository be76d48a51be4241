"""The chart of what days have cost."""

import pytest

from app.dashboard.costs import Day, chart


def test_a_bar_is_work_without_what_failed_then_that_then_idle_time() -> None:
    found = chart([Day("2026-03-01", work=4.0, failed=1.0, idle=6.0), Day("2026-03-02", 0.0, 0.0, 0.0)])
    assert found is not None
    assert found.top == 10
    (day, bars), (_, none) = found.columns
    assert [(bar.kind, bar.height) for bar in bars] == [("job", 30), ("bad", 10), ("off", 60)]
    assert (day.total, none) == (10.0, [])
    assert found.labels == [(25.0, "01 Mar"), (75.0, "02 Mar")]


@pytest.mark.parametrize("days", [0, 3, 63])
def test_there_is_no_chart_of_nothing_and_of_too_much(days: int) -> None:
    worth = 1.0 if days > 3 else 0.0
    assert chart([Day("2026-03-01", worth, 0.0, 0.0)] * days) is None


@pytest.mark.parametrize("days", [1, 8, 9, 31, 62])
def test_labels_are_few(days: int) -> None:
    found = chart([Day("2026-03-01", 0.0001, 0.0, 0.0)] * days)
    assert found is not None
    assert 1 <= len(found.labels) <= 8
