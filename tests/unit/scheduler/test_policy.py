"""How long a retry waits."""

import pytest

from scheduler.policy import Policy

POLICY = Policy(retry_base_seconds=1.0, retry_cap_seconds=60.0)


def test_the_wait_doubles_up_to_its_cap() -> None:
    full = [POLICY.retry_delay_seconds(attempts, jitter=1.0) for attempts in range(1, 10)]

    assert full == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize("attempts", [1, 3, 20])
def test_jitter_spreads_it_over_the_upper_half(attempts: int) -> None:
    full = POLICY.retry_delay_seconds(attempts, jitter=1.0)

    assert POLICY.retry_delay_seconds(attempts, jitter=0.0) == full / 2
    assert POLICY.retry_delay_seconds(attempts, jitter=0.5) == full * 0.75


def test_no_number_of_attempts_is_too_many() -> None:
    assert POLICY.retry_delay_seconds(100_000, jitter=1.0) == 60
