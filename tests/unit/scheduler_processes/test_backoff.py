"""Backoff: waits that double up to a cap, however long the failures last."""

import pytest

from scheduler.processes import Backoff


def test_waits_double_up_to_the_cap() -> None:
    backoff = Backoff(base_seconds=0.5, cap_seconds=5.0)
    assert [backoff.failed() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.failures == 6


def test_a_success_starts_afresh() -> None:
    backoff = Backoff()
    first = backoff.failed()
    backoff.failed()
    backoff.succeeded()
    assert backoff.failures == 0
    assert backoff.failed() == first


@pytest.mark.parametrize("failures", [1023, 1024, 5000, 10**6])
def test_it_does_not_overflow_after_weeks_of_failures(failures: int) -> None:
    assert Backoff(failures=failures).failed() == 30.0
