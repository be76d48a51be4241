"""When a blocked job can start, and what may run before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.backfill import Holding, Running, Window, lanes, window

jobs = st.lists(st.builds(Running, st.integers(1, 50), st.floats(0, 1000)), max_size=8)


def test_the_start_is_when_enough_jobs_have_ended() -> None:
    running = [Running(4, 30.0), Running(2, 10.0), Running(8, 20.0)]

    assert window(1, 3, running) == Window(10.0, 0)
    assert window(1, 4, running) == Window(20.0, 7)
    assert window(1, 15, running) == Window(30.0, 0)
    assert window(1, 16, running) is None


def test_jobs_that_end_together_are_all_counted_as_spare() -> None:
    assert window(0, 3, [Running(3, 10.0), Running(5, 10.0)]) == Window(10.0, 5)


def test_what_fits_now_starts_now() -> None:
    assert window(10, 4, [Running(3, 5.0)]) == Window(0.0, 6)


@given(free=st.integers(0, 50), needed=st.integers(1, 100), running=jobs, beside=st.integers(1, 50))
def test_a_job_that_fits_beside_never_moves_the_start(
    free: int, needed: int, running: list[Running], beside: int
) -> None:
    before = window(free, needed, running)
    if before is None or beside > min(free, before.spare_bytes):
        return

    after = window(free - beside, needed, [*running, Running(beside, 1e9)])

    assert after is not None
    assert after.seconds == before.seconds


@given(
    free=st.integers(0, 50), needed=st.integers(1, 100), running=jobs, need=st.integers(1, 50), share=st.floats(0, 1)
)
def test_a_job_that_ends_in_time_never_moves_the_start(
    free: int, needed: int, running: list[Running], need: int, share: float
) -> None:
    before = window(free, needed, running)
    if before is None or need > free:
        return

    after = window(free - need, needed, [*running, Running(need, before.seconds * share)])

    assert after is not None
    assert after.seconds == before.seconds


def test_a_window_allows_what_ends_in_time_or_fits_beside() -> None:
    gap = Window(100.0, 5)

    assert gap.allows(80.0, 50, slack=1.25)
    assert not gap.allows(81.0, 50, slack=1.25)
    assert gap.allows(1e9, 5, slack=1.25)
    assert not gap.allows(1e9, 6, slack=1.25)


def test_a_job_that_starts_later_has_so_much_less_time() -> None:
    gap = Window(100.0, 5).after(40.0)

    assert gap.allows(48.0, 50, slack=1.25)
    assert not gap.allows(49.0, 50, slack=1.25)
    assert gap.allows(1e9, 5, slack=1.25)


@pytest.mark.parametrize(("left", "since", "remains"), [(100.0, 0.0, 100.0), (100.0, 30.0, 70.0), (10.0, 50.0, 0.0)])
def test_what_remains_goes_by_progress_and_by_the_clock_since(left: float, since: float, remains: float) -> None:
    assert lanes([Holding(("w", 0), 4, left, since)]) == {("w", 0): Running(4, pytest.approx(remains))}


def test_a_lane_holds_its_largest_job_until_the_last_has_ended() -> None:
    """The second job of a lane has waited since it was claimed, not run."""
    running = [Holding(("w", 0), 4, 60.0, 5.0), Holding(("w", 0), 7, 100.0, 20.0)]
    beside = [Holding(("w", 1), 2, 10.0, 0.0), Holding(("v", 0), 3, 30.0, 10.0)]

    assert lanes([*running, *beside]) == {
        ("w", 0): Running(7, 155.0),
        ("w", 1): Running(2, 10.0),
        ("v", 0): Running(3, 20.0),
    }
