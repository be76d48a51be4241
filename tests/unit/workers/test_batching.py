"""Whether one more job may share a pass: from measured times alone."""

import pytest

from workers.batching import GAIN, Sharing

KIND = ("512x512x16", "fp16")


def learned(most: int = 8, **seconds: float) -> Sharing:
    """Return what has seen passes of 1, 2, … jobs take so long: `learned(one=1.0, two=1.5)`."""
    sharing = Sharing(most)
    for jobs, each in zip((1, 2, 3), (seconds.get(name) for name in ("one", "two", "three")), strict=True):
        for _ in range(3 if each is not None else 0):
            sharing.passed(KIND, jobs, each or 0.0)
    return sharing


def test_nobody_joins_before_there_is_something_to_compare_with() -> None:
    sharing = Sharing(4)
    assert not sharing.may_join(KIND, 1)
    for _ in range(2):
        sharing.passed(KIND, 1, 1.0)
    assert not sharing.may_join(KIND, 1)
    sharing.passed(KIND, 1, 1.0)
    assert sharing.may_join(KIND, 1), "one try tells whether it gains"


@pytest.mark.parametrize(
    ("together", "joins"),
    [(1.0, True), (1.8, True), (2 / GAIN + 0.01, False), (2.0, False), (3.0, False)],
)
def test_a_size_that_was_measured_is_used_only_where_it_gains(together: float, joins: bool) -> None:
    assert learned(one=1.0, two=together).may_join(KIND, 1) is joins


def test_each_further_one_has_to_gain_by_itself() -> None:
    assert learned(one=1.0, two=1.2, three=1.5).may_join(KIND, 2)
    assert not learned(one=1.0, two=1.2, three=1.8).may_join(KIND, 2)


def test_no_more_than_allowed() -> None:
    assert not learned(most=1, one=1.0).may_join(KIND, 1)
    assert not learned(most=2, one=1.0, two=1.0).may_join(KIND, 2)


def test_a_size_that_ran_out_of_memory_is_not_tried_again_and_smaller_ones_are() -> None:
    sharing = learned(one=1.0, two=1.2, three=1.3)
    sharing.ran_out(KIND, 3)
    assert not sharing.may_join(KIND, 2)
    assert sharing.may_join(KIND, 1)
    sharing.ran_out(KIND, 2)
    assert not sharing.may_join(KIND, 1)


def test_what_one_kind_has_learned_says_nothing_of_another() -> None:
    sharing = learned(one=1.0, two=3.0)
    for _ in range(3):
        sharing.passed("another", 1, 1.0)
    assert sharing.may_join("another", 1)
    sharing.ran_out("another", 2)
    assert sharing.step_seconds(KIND, 2) == 3.0


def test_one_slow_pass_does_not_count() -> None:
    sharing = learned(one=1.0, two=1.2)
    sharing.passed(KIND, 2, 60.0)
    assert sharing.may_join(KIND, 1)
    assert sharing.gain(KIND, 2) == pytest.approx(2 / 1.2)
    assert sharing.gain(KIND, 3) is None
