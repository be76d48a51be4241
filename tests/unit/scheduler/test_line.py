"""The ladder: a line of any length, in steps."""

import pytest

from scheduler.line import RUNG_STEP, Ladder
from scheduler.store.lines import Rung

STEP = RUNG_STEP


def ladder(jobs: int) -> Ladder:
    """Of a line whose job number n has rank -n and takes 2 seconds."""
    return Ladder([Rung(-float(n), f"job_{n:06d}", n, 2.0 * n) for n in range(STEP, jobs + 1, STEP)])


@pytest.mark.parametrize("jobs", [1000, 1249, 100_000])
def test_an_estimate_is_off_by_half_a_step_at_most(jobs: int) -> None:
    steps = ladder(jobs)

    for number in range(STEP, jobs + 1, 17):
        ahead, seconds = steps.ahead(-float(number), f"job_{number:06d}")
        assert abs(ahead - (number - 1)) <= STEP // 2 + 1
        assert seconds == pytest.approx(2.0 * ahead)


def test_among_equal_ranks_the_id_decides() -> None:
    steps = Ladder([Rung(1.0, f"job_{n:06d}", n, 2.0 * n) for n in range(STEP, 1001, STEP)])

    assert [steps.ahead(1.0, f"job_{n:06d}")[0] // STEP for n in (0, 249, 250, 499, 500, 999)] == [0, 0, 1, 1, 2, 3]


def test_before_the_first_step_nobody_is_ahead() -> None:
    assert ladder(1000).ahead(0.0, "job_0") == (0, 0.0)
    assert Ladder([]).ahead(0.0, "job_0") == (0, 0.0)
