"""The geometry of charts."""

import pytest

from app.dashboard.charts import Bar, TimeAxis, area, line, stacked, top_of

NOON = 1_790_000_000 // 86_400 * 86_400 + 43_200.0


@pytest.mark.parametrize(
    ("values", "top"), [([], 1), ([0.3], 1), ([1.0], 1), ([1.1], 2), ([3], 5), ([7], 10), ([10], 10), ([230, 4], 500)]
)
def test_the_top_is_round_and_not_below_the_largest(values: list[float], top: float) -> None:
    assert top_of(values) == top


def test_a_time_axis_places_times_and_keeps_them_inside() -> None:
    axis = TimeAxis(100, 200)
    assert [axis.place(at) for at in (0, 100, 150, 200, 999)] == [0, 0, 50, 100, 100]


@pytest.mark.parametrize("seconds", [90, 600, 3600, 86_400, 7 * 86_400, 31 * 86_400, 400 * 86_400])
def test_ticks_are_at_round_times_inside_and_few(seconds: float) -> None:
    axis = TimeAxis(NOON, NOON + seconds)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 14
    assert all(tick.at is not None and axis.since <= tick.at <= axis.until and tick.at % 60 == 0 for tick in ticks)


def test_ticks_say_the_day_where_they_are_days_apart() -> None:
    assert TimeAxis(NOON, NOON + 3600).ticks()[0].form == "minute"
    assert {tick.form for tick in TimeAxis(NOON, NOON + 7 * 86_400).ticks()} == {"day"}


def test_stacks_grow_from_the_bottom_and_leave_out_nothing_but_zero() -> None:
    first, second = stacked([[("good", 2), ("bad", 0), ("off", 3)], []], top=10, gap=0)
    assert first == [Bar("good", 0, 80, 50, 20), Bar("off", 0, 50, 50, 30)]
    assert second == []


def test_a_line_breaks_where_nothing_is_known() -> None:
    axis = TimeAxis(0, 100)
    points = [(0, 0.0), (10, 5.0), (20, None), (30, 10.0), (40, 20.0), (90, 10.0)]
    assert line(points, axis, top=10, longest_gap=20) == "M0.0 100.0 L10.0 50.0 M30.0 0.0 L40.0 0.0 M90.0 0.0"


def test_an_area_stands_on_the_ground() -> None:
    assert area([(0, 5.0), (100, 10.0)], TimeAxis(0, 100), top=10, longest_gap=200) == (
        "M0.0 100 L0.0 50.0 L100.0 0.0 L100.0 100Z"
    )
    assert area([], TimeAxis(0, 100), top=10, longest_gap=200) == ""
