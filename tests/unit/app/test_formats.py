"""Numbers as people read them."""

from datetime import UTC, datetime

import pytest

from app.formats import age, duration, money, percent, size


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536 * 2**10, "1.5 MiB"), (80 * 2**30, "80.0 GiB")],
)
def test_size(number, text):
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1m 00s"),
        (185, "3m 05s"),
        (3600, "1h 00m"),
        (7630, "2h 07m"),
        (735574.3, "8d 12h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("created", "text"),
    [
        ("2026-01-21T12:00:00.5Z", "0s"),  # a clock that is behind the server's
        ("2026-01-21T11:59:48Z", "12s"),
        ("2026-01-21T11:55:00Z", "5m"),
        ("2026-01-21T09:00:00.000000Z", "3h"),
        ("2026-01-01T00:00:00+00:00", "20d"),
    ],
)
def test_age(created, text):
    assert age(created, datetime(2026, 1, 21, 12, tzinfo=UTC)) == text


def test_percent_is_100_only_at_the_end():
    assert [percent(value) for value in (0.0, 0.42, 0.999, 1.0)] == ["0%", "42%", "99%", "100%"]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "0"),
        (0.00002, "below 0.0001"),
        (0.01234567, "0.01235"),
        (0.5, "0.50"),
        (3.14159, "3.142"),
        (99.999, "100.00"),
        (1234567.891, "1,234,567.89"),
    ],
)
def test_money(amount, text):
    assert money(amount) == text
