"""The time that a report is of."""

from datetime import UTC, date, datetime

import pytest

from app.dashboard.periods import choose

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("choice", "first"),
    [
        ("today", date(2026, 3, 14)),
        ("7d", date(2026, 3, 8)),
        ("30d", date(2026, 2, 13)),
        ("month", date(2026, 3, 1)),
    ],
)
def test_a_choice_is_of_whole_days_until_now(choice: str, first: date) -> None:
    period = choose(choice, "", "", NOW)
    assert (period.choice, period.first, period.last) == (choice, first, date(2026, 3, 14))
    assert period.since == datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()
    assert (period.until, period.problem) == (None, None)


def test_the_last_day_that_was_named_belongs_to_it() -> None:
    period = choose("custom", "2026-02-27", "2026-03-01", NOW)
    assert period.until is not None
    assert (period.until - period.since) / 86_400 == 3
    assert period.problem is None


@pytest.mark.parametrize(
    ("choice", "first", "last", "words"),
    [
        ("year", "", "", "no period 'year'"),
        ("custom", "", "2026-03-01", "must be given"),
        ("custom", "2026-02-30", "2026-03-01", "must be given"),
        ("custom", "2026-03-02", "2026-03-01", "must not be after"),
        ("custom", "2026-03-02", "9999-12-31", "must not be after"),
        ("custom", "\x00", "<b>", "must be given"),
    ],
)
def test_what_is_no_period_is_told_and_the_usual_one_shown(choice: str, first: str, last: str, words: str) -> None:
    period = choose(choice, first, last, NOW)
    assert period.choice == "30d"
    assert period.problem is not None
    assert words in period.problem
    assert period.problem.endswith("Shown: 30 days.")
