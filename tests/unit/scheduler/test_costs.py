"""A GPU's time is divided, and nothing of it is lost or counted twice."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.costs import DAY_SECONDS, Interval, days, divide

# Whole and half seconds, so that many begin or end together; a month of them, as a report has it.
_TIMES = st.integers(0, 2 * 30 * DAY_SECONDS).map(lambda half: 1_800_000_000.0 + half / 2)
INTERVALS = st.lists(st.tuples(_TIMES, _TIMES).map(lambda two: (min(two), max(two))), max_size=30)


def union_seconds(intervals: list[Interval]) -> float:
    """The time that any of these covers, the plain way."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def shares(intervals: list[Interval]) -> list[float]:
    division = divide(intervals)
    return [division.share(*one) for one in intervals]


@pytest.mark.parametrize(
    ("intervals", "expected", "busy"),
    [
        ([], [], 0.0),
        ([(0.0, 10.0)], [10.0], 10.0),
        ([(0.0, 10.0), (20.0, 25.0)], [10.0, 5.0], 15.0),
        ([(0.0, 10.0), (10.0, 20.0)], [10.0, 10.0], 20.0),
        ([(0.0, 10.0), (0.0, 10.0)], [5.0, 5.0], 10.0),
        ([(0.0, 10.0), (4.0, 10.0)], [7.0, 3.0], 10.0),
        ([(0.0, 12.0), (3.0, 9.0), (6.0, 9.0)], [3.0 + 1.5 + 1.0 + 3.0, 1.5 + 1.0, 1.0], 12.0),
        ([(5.0, 5.0), (0.0, 10.0)], [0.0, 10.0], 10.0),
    ],
    ids=["none", "alone", "apart", "one after another", "together", "joined", "three", "a moment"],
)
def test_the_time_of_a_gpu_is_divided_equally(intervals: list[Interval], expected: list[float], busy: float) -> None:
    assert shares(intervals) == pytest.approx(expected)
    assert divide(intervals).busy_seconds == busy


@given(INTERVALS)
def test_what_attempts_have_adds_up_to_the_time_in_which_any_ran(intervals: list[Interval]) -> None:
    union = union_seconds(intervals)
    assert divide(intervals).busy_seconds == pytest.approx(union, abs=1e-6)
    assert sum(shares(intervals)) == pytest.approx(union, abs=1e-6)


@given(INTERVALS, st.randoms(use_true_random=False))
def test_the_order_of_attempts_does_not_matter(intervals: list[Interval], chance: random.Random) -> None:
    division, mixed = divide(intervals), list(intervals)
    chance.shuffle(mixed)
    assert divide(mixed) == division


@given(INTERVALS)
def test_an_attempt_has_at_most_its_time_and_at_least_its_part_of_the_most_that_ran_together(
    intervals: list[Interval],
) -> None:
    for (start, end), share in zip(intervals, shares(intervals), strict=True):
        assert (end - start) / len(intervals) - 1e-6 <= share <= end - start + 1e-6


@given(INTERVALS)
def test_the_days_of_an_attempt_add_up_to_it(intervals: list[Interval]) -> None:
    cuts = {start for one in intervals for start, _ in days(one)}
    division = divide(intervals, cuts)
    for one in intervals:
        parts = days(one)
        assert sum(division.share(*part) for part in parts) == pytest.approx(division.share(*one), abs=1e-6)
        assert (parts[0][0], parts[-1][1]) == one
        assert all(left[1] == right[0] and right[0] % DAY_SECONDS == 0 for left, right in zip(parts, parts[1:]))  # noqa: B905, RUF007
        assert all(start // DAY_SECONDS >= (end - 0.5) // DAY_SECONDS for start, end in parts if end > start)


def test_midnight_ends_a_day_and_begins_the_next() -> None:
    day = float(DAY_SECONDS)
    assert list(days((day, 2 * day))) == [(day, 2 * day)]
    assert list(days((day - 1, day + 1))) == [(day - 1, day), (day, day + 1)]
    assert list(days((0.0, 3 * day))) == [(0.0, day), (day, 2 * day), (2 * day, 3 * day)]
    assert list(days((day, day))) == [(day, day)]
