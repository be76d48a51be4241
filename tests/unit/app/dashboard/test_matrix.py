"""Where an installation stands in the matrix of load against growth."""

import pytest

from app.dashboard.matrix import QUADRANTS, x_of, y_of
from scheduler.advice import Growth, quadrant


@pytest.mark.parametrize(
    ("load", "x"), [(0.0, 4), (0.35, 25), (0.699, 49.93), (0.7, 50), (0.85, 75), (1.0, 96), (1.2, 96)]
)
def test_seventy_percent_of_load_is_the_middle(load: float, x: float) -> None:
    assert x_of(load) == x


@pytest.mark.parametrize(
    ("monthly", "high", "y"),
    [
        (0.2, True, 50),
        (0.4, True, 25),
        (9.0, True, 4),
        (0.0, False, 75),
        (-1.0, False, 96),
        (None, True, 25),
        (None, False, 75),
        (None, None, 75),
    ],
)
def test_growth_goes_up(monthly: float | None, high: bool | None, y: float) -> None:
    assert y_of(monthly, high=high) == y


@pytest.mark.parametrize("load", [0.1, 0.69, 0.7, 0.99])
@pytest.mark.parametrize("growth", [Growth.expected(-0.5), Growth.expected(0.19), Growth.expected(0.2), Growth(None)])
def test_a_point_lies_in_the_quadrant_of_its_verdict(load: float, growth: Growth) -> None:
    (drawn,) = (one for one in QUADRANTS if one.verdict is quadrant(load, growth))
    assert drawn.x <= x_of(load) <= drawn.x + 50
    assert drawn.y <= y_of(growth.monthly, high=growth.high) <= drawn.y + 50
