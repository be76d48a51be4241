"""The off-peak window: which minutes it has, when it opens next, and what is no window."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from scheduler.windows import Windows, read_windows, read_zone

NIGHT = "* 22-23,0-5 * * *"


def windows(text: str, zone: str = "UTC") -> Windows:
    read = read_windows(text, zone)
    assert read is not None
    return read


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-20T21:59:59.999", False),
        ("2026-11-20T22:00:00", True),
        ("2026-11-20T23:59:59.999", True),
        ("2026-11-21T05:59:59.999", True),
        ("2026-11-21T06:00:00", False),
        ("2026-11-21T12:00:00", False),
    ],
)
def test_each_minute_that_the_expression_matches_is_in_the_window(moment: str, is_open: bool) -> None:
    assert windows(NIGHT).is_open(at(moment)) is is_open


def test_it_opens_with_the_first_minute_that_matches() -> None:
    night = windows(NIGHT)

    assert night.next_open(at("2026-11-20T06:00:00")) == at("2026-11-20T22:00:00")
    assert night.next_open(at("2026-11-20T21:59:59.5")) == at("2026-11-20T22:00:00")
    assert night.next_open(at("2026-11-20T23:10:00.5")) == at("2026-11-20T23:10:00.5")


def test_the_clock_is_that_of_the_zone() -> None:
    berlin = windows(NIGHT, "Europe/Berlin")

    assert berlin.next_open(at("2026-11-20T12:00:00")) == at("2026-11-20T21:00:00")
    assert berlin.told(at("2026-11-20T21:00:00")) == "2026-11-20 22:00 (Europe/Berlin)"


@pytest.mark.parametrize("separator", [";", "|", " ; "])
def test_it_is_open_where_one_of_several_expressions_matches(separator: str) -> None:
    both = windows(f"* 22-23 * * 1-5{separator}* * * * 6,0")

    assert [both.is_open(at(f"2026-11-{day}T12:00:00")) for day in (20, 21, 22, 23)] == [False, True, True, False]
    assert both.next_open(at("2026-11-20T12:00:00")) == at("2026-11-20T22:00:00")
    assert both.next_open(at("2026-11-23T00:00:00")) == at("2026-11-23T22:00:00")


def test_an_hour_that_is_left_out_opens_nothing() -> None:
    """On 29 March 2026 the clocks of Berlin go from 02:00 to 03:00."""
    two = windows("* 2 * * *", "Europe/Berlin")

    assert two.next_open(at("2026-03-28T12:00:00")) == at("2026-03-30T02:00:00", "Europe/Berlin")
    night = windows(NIGHT, "Europe/Berlin")
    begin = at("2026-03-28T22:00:00", "Europe/Berlin")
    assert [night.is_open(begin + 3600 * hours) for hours in range(8)] == [True] * 7 + [False]


def test_an_hour_that_comes_twice_opens_it_twice() -> None:
    """On 25 October 2026 the clocks of Berlin go from 03:00 to 02:00."""
    first, second = at("2026-10-25T02:00:00", "Europe/Berlin"), at("2026-10-25T02:00:00", "Europe/Berlin", fold=1)
    half = windows("0-29 2 * * *", "Europe/Berlin")

    assert second - first == 3600
    assert half.next_open(first - 7200) == first
    assert half.next_open(first + 1800) == second
    assert half.next_open(second + 1800) == at("2026-10-26T02:00:00", "Europe/Berlin")


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Europe/Berlin", "2026-03-29"),
        ("Europe/Berlin", "2026-10-25"),
        ("Asia/Beirut", "2026-03-29"),  # midnight is left out
        ("America/Havana", "2026-11-01"),  # midnight comes twice
        ("Australia/Lord_Howe", "2026-04-05"),  # half an hour comes twice
        ("Pacific/Apia", "2011-12-30"),  # a whole day is left out
    ],
)
@pytest.mark.parametrize("expression", [NIGHT, "15-30 2 * * *", "* 0 * * *", "*/7 */3 * * *"])
def test_the_next_opening_is_the_first_minute_that_is_in_the_window(zone: str, day: str, expression: str) -> None:
    """Compared with a look at each minute of the days around a change of the clocks."""
    window = windows(expression, zone)
    begin = at(f"{day}T00:00:00") - 86_400
    minutes = [begin + 60 * number for number in range(6 * 1440)]
    first = [minute for minute in minutes if window.is_open(minute)]

    for minute in minutes[: 3 * 1440 : 13]:
        assert window.next_open(minute) == next(one for one in first if one >= minute)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("22-6", "'22-6' has 1 fields, not 5: minute, hour, day, month, weekday"),
        ("0 * 22 * * *", "'0 * 22 * * *' has 6 fields, not 5"),
        ("* 24 * * *", "'* 24 * * *' is no cron expression: Bad hour"),
        ("* 22-5 * * *", "'* 22-5 * * *' is no cron expression: Bad hour"),
        ("* 22 * * *; * * 31 4 *", "'* * 31 4 *' is no cron expression: Bad day-of-month"),
    ],
)
def test_what_is_no_window_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^" + wrong.replace("*", r"\*")):
        read_windows(text, "UTC")


def test_a_window_that_clocks_always_leave_out_is_refused() -> None:
    """The last Sunday of March, at half past two."""
    assert read_windows("30 2 * 3 0L", "UTC") is not None
    with pytest.raises(ValueError, match="never matches"):
        read_windows("30 2 * 3 0L", "Europe/Berlin")


def test_a_leap_day_may_be_far_away() -> None:
    leap = windows("* * 29 2 *")

    assert leap.next_open(at("2096-03-01T00:00:00")) == at("2104-02-29T00:00:00")


@pytest.mark.parametrize("name", ["", "Berlin", "Europe", "/etc/localtime", "../UTC", "\0"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no time zone of the IANA, such as Europe/Berlin$"):
        read_zone(name)


@pytest.mark.parametrize("text", ["", "  ", ";", " | "])
def test_nothing_means_no_window(text: str) -> None:
    assert read_windows(text, "UTC") is None


def test_windows_that_are_written_otherwise_are_the_same() -> None:
    one, other = windows("* 22 * * *;  * 23 * * *"), windows("* 22 *  * * | * 23 * * *")

    assert one == other
    assert str(one) == str(other) == "* 22 * * *; * 23 * * * (UTC)"
    assert one != windows("* 22 * * *; * 23 * * *", "Europe/Berlin")


def test_days_are_counted_by_the_zones_calendar() -> None:
    monday = windows("* * * * 1", "Pacific/Auckland")

    opens = monday.next_open(at("2026-11-19T00:00:00"))
    assert datetime.fromtimestamp(opens, UTC) == datetime(2026, 11, 22, 11, tzinfo=UTC)
    assert not monday.is_open(opens + timedelta(days=1).total_seconds())
