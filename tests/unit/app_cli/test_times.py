"""Times as they are typed: counted from now, or in full."""

from datetime import UTC, datetime, timedelta

import pytest
import typer

from app.cli.times import ago, ahead


@pytest.mark.parametrize(("text", "seconds"), [("+90s", 90), ("+2h", 7200), ("+1d", 86_400), ("+5", 5)])
def test_a_start_may_count_from_now(text, seconds):
    before = datetime.now(UTC).timestamp()
    start = datetime.fromisoformat(ahead(text, "--deadline"))
    assert start.tzinfo is not None
    assert before <= start.timestamp() - seconds <= datetime.now(UTC).timestamp()


def test_any_other_start_is_for_the_server_to_judge():
    assert ahead("2030-01-31T18:00:00Z", "--deadline") == "2030-01-31T18:00:00Z"


@pytest.mark.parametrize(
    ("text", "words"),
    [("+", "no duration"), ("+soon", "no duration"), ("+1e30d", "too far"), ("soon", r"say 2030-.*, or \+2h for")],
)
def test_no_start(text, words):
    with pytest.raises(typer.BadParameter, match=words):
        ahead(text, "--deadline")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("2h", 7200), ("1d", 86_400)])
def test_the_past_is_counted_back_from_now(text, seconds):
    before = datetime.now(UTC)
    found = ago(text)
    assert before <= found + timedelta(seconds=seconds) <= datetime.now(UTC)


def test_a_time_in_full_is_that_time():
    assert ago("2026-01-31T19:00:00+01:00") == datetime(2026, 1, 31, 18, tzinfo=UTC)
    assert ago("2026-01-31T18:00:00").tzinfo is not None


@pytest.mark.parametrize(("text", "words"), [("yesterday", "no time: say 2h"), ("", "no time"), ("1e30d", "too long")])
def test_no_time(text, words):
    with pytest.raises(typer.BadParameter, match=words):
        ago(text)
