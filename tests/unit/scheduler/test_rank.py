"""Weight and rank, and the bound on waiting that the rank promises."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scheduler.rank import rank, weight

GIB = 2**30
weights = st.floats(1e-3, 1e6)
times = st.floats(1.7e9, 1.9e9)
taus = st.floats(1.0, 1e6)


def test_weight_is_the_users_formula() -> None:
    assert weight(80.0, 10 * GIB, 2.0) == pytest.approx(16.0)
    assert weight(80.0, 20 * GIB, 1.0) == pytest.approx(4.0)


@given(early=weights, late=weights, submitted_at=times, gap=st.floats(0, 1e6), tau=taus)
def test_a_later_job_overtakes_exactly_within_the_bound(
    early: float, late: float, submitted_at: float, gap: float, tau: float
) -> None:
    bound = tau * math.log(late / early)
    assume(abs(gap - bound) > 1e-6 * (1 + abs(bound) + tau))  # a tie is decided by rounding

    overtakes = rank(late, submitted_at + gap, tau) > rank(early, submitted_at, tau)

    assert overtakes is (gap < bound)


@given(one=weights, other=weights, at=times, later=st.floats(0, 1e6), tau=taus)
def test_the_order_of_two_jobs_never_changes(one: float, other: float, at: float, later: float, tau: float) -> None:
    """Ageing is in the submission time: shifting both by the same time shifts both ranks alike."""
    before = rank(one, at, tau) - rank(other, at, tau)
    after = rank(one, at + later, tau) - rank(other, at + later, tau)

    assert after == pytest.approx(before, abs=1e-6 * (at + later) / tau + 1e-6)


@given(one=weights, other=weights, first=times, second=times)
def test_without_ageing_only_weight_counts(one: float, other: float, first: float, second: float) -> None:
    assume(math.log(one) != math.log(other))

    assert (rank(one, first, math.inf) > rank(other, second, math.inf)) is (one > other)
