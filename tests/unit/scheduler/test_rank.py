"""Weight and rank, and the bound on waiting that the rank promises."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scheduler.policy import Order, Policy
from scheduler.rank import overtaking_seconds, rank, weight

GIB = 2**30
merits = st.floats(1e-3, 1e6)
times = st.floats(1.7e9, 1.9e9)
taus = st.floats(1.0, 1e6)
aged = st.sampled_from([Order.WEIGHTED, Order.SHORTEST_FIRST])


def place(order: Order, merit: float, virtual_at: float, tau: float) -> float:
    """The rank of a job whose merit under `order` is `merit`."""
    policy = Policy(order=order, tau_seconds=tau)
    return rank(policy, job_weight=merit, est_seconds=2.0, priority=2.0 * merit, virtual_at=virtual_at)


def test_weight_is_the_users_formula() -> None:
    assert weight(80.0, 10 * GIB, 2.0) == pytest.approx(16.0)
    assert weight(80.0, 20 * GIB, 1.0) == pytest.approx(4.0)


@given(order=aged, early=merits, late=merits, at=times, gap=st.floats(0, 1e6), tau=taus)
def test_a_later_job_overtakes_exactly_within_the_bound(
    order: Order, early: float, late: float, at: float, gap: float, tau: float
) -> None:
    bound = overtaking_seconds(late, early, tau)
    assume(abs(gap - bound) > 1e-6 * (1 + abs(bound) + tau))  # a tie is decided by rounding

    overtakes = place(order, late, at + gap, tau) > place(order, early, at, tau)

    assert overtakes is (gap < bound)


@given(early=merits, late=merits, at=times, gap=st.floats(1e-3, 1e6), tau=taus)
def test_first_in_first_out_lets_nothing_overtake(early: float, late: float, at: float, gap: float, tau: float) -> None:
    assert place(Order.FIFO, late, at + gap, tau) < place(Order.FIFO, early, at, tau)


@given(order=aged, one=merits, other=merits, at=times, later=st.floats(0, 1e6), tau=taus)
def test_the_order_of_two_jobs_never_changes(
    order: Order, one: float, other: float, at: float, later: float, tau: float
) -> None:
    """Ageing is in the submission time: shifting both by the same time shifts both ranks alike."""
    before = place(order, one, at, tau) - place(order, other, at, tau)
    after = place(order, one, at + later, tau) - place(order, other, at + later, tau)

    assert after == pytest.approx(before, abs=1e-6 * (at + later) / tau + 1e-6)


@given(order=aged, one=merits, other=merits, first=times, second=times)
def test_without_ageing_only_merit_counts(order: Order, one: float, other: float, first: float, second: float) -> None:
    assume(math.log(one) != math.log(other))

    assert (place(order, one, first, math.inf) > place(order, other, second, math.inf)) is (one > other)


def test_shortest_first_goes_by_seconds_and_priority() -> None:
    policy = Policy(order=Order.SHORTEST_FIRST)
    short = rank(policy, job_weight=1, est_seconds=5, priority=1, virtual_at=0)
    long = rank(policy, job_weight=9, est_seconds=50, priority=1, virtual_at=0)
    urgent = rank(policy, job_weight=9, est_seconds=50, priority=11, virtual_at=0)

    assert long < short < urgent
