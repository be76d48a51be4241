"""The off-peak window: the minutes of local time in which a job that asked for it may start. Pure, no I/O.

Windows are cron expressions of five fields, and each minute that one of them matches is in the window: `* 22-23,0-5 * *
*` is from 22:00 to 06:00. A minute is matched by what a clock in the time zone shows. So where clocks are set forward,
an hour that is left out does not open a window, and where they are set back, an hour that comes twice opens it twice.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from scheduler.errors import InvalidParameter
from scheduler.states import Window

_FIELDS = 5
_SEPARATOR = re.compile(r"[;|]")
_LONGEST_SECONDS = 9 * 366 * 86_400.0  # 29 February may be eight years away


@dataclass(frozen=True, slots=True)
class Windows:
    """When the window is open. Times are seconds since 1970. Make it by `read_windows`."""

    expressions: tuple[str, ...]
    zone: str
    _tz: tzinfo = field(repr=False, compare=False)
    _crons: tuple[CronSim, ...] = field(repr=False, compare=False)

    def __str__(self) -> str:
        """The expressions and the zone: what two settings that mean the same have in common."""
        return f"{'; '.join(self.expressions)} ({self.zone})"

    def is_open(self, at: float) -> bool:
        """Tell whether a job of the window may start then."""
        local = self._local(at)
        return any(_matches_day(cron, local) and _matches_time(cron, local) for cron in self._crons)

    def next_open(self, at: float) -> float:
        """Return the first time from `at` on at which the window is open: `at` itself while it is."""
        if self.is_open(at):
            return at
        return min(opening for cron in self._crons if (opening := self._opening(cron, at)) is not None)

    def told(self, at: float) -> str:
        """Return a time as a clock in the zone shows it, with the zone's name."""
        return f"{self._local(at):%Y-%m-%d %H:%M} ({self.zone})"

    def never_open(self, at: float) -> str | None:
        """Return the first expression that matches no minute of the years after `at`, if there is one."""
        pairs = zip(self.expressions, self._crons, strict=True)
        return next((expression for expression, cron in pairs if self._opening(cron, at) is None), None)

    def _opening(self, cron: CronSim, at: float) -> float | None:
        """When the first minute after `at` begins that an expression matches."""
        minute = (at // 60 + 1) * 60
        while minute < at + _LONGEST_SECONDS:
            local = self._local(minute)
            if not _matches_day(cron, local):
                minute = datetime.combine(local.date() + timedelta(days=1), time(), self._tz).timestamp()
            elif local.hour not in cron.hours:
                minute += 900 - minute % 900  # clocks are set by whole quarters of an hour
            elif local.minute not in cron.minutes:
                minute += 60
            else:
                return minute
        return None

    def _local(self, at: float) -> datetime:
        return datetime.fromtimestamp(at, self._tz)


def earliest(windows: Windows | None, window: Window | None, at: float) -> float:
    """Return the first time from `at` on at which a job may start that asks for this window, or for none.

    Raises `InvalidParameter` for a window where there is none.
    """
    if window is None:
        return at
    if windows is None:
        raise InvalidParameter("window", "must not be given: no off-peak window is set here")
    return windows.next_open(at)


def read_zone(name: str) -> ZoneInfo:
    """Return a time zone of the IANA's; raises `ValueError` for a name that is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; no name at all; a folder of the database
        raise ValueError(f"{name!r} is no time zone of the IANA, such as Europe/Berlin") from None


def read_windows(text: str, zone: str) -> Windows | None:
    """Return the windows that cron expressions, separated by `;` or `|`, describe in a zone; None where there is none.

    Raises `ValueError`, with what is wrong in one line.
    """
    expressions = tuple(" ".join(one.split()) for one in _SEPARATOR.split(text) if one.strip())
    if not expressions:
        return None
    windows = Windows(expressions, zone, read_zone(zone), tuple(map(_parsed, expressions)))
    never = windows.never_open(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
    if never is not None:
        raise ValueError(f"{never!r} never matches")
    return windows


def _parsed(expression: str) -> CronSim:
    count = len(expression.split())
    if count != _FIELDS:
        raise ValueError(f"{expression!r} has {count} fields, not {_FIELDS}: minute, hour, day, month, weekday")
    try:
        return CronSim(expression, datetime(2020, 1, 1, tzinfo=UTC))  # only what it says of a minute matters
    except CronSimError as error:
        raise ValueError(f"{expression!r} is no cron expression: {error}") from None


def _matches_day(cron: CronSim, local: datetime) -> bool:
    return local.month in cron.months and cron.match_day(local.date())


def _matches_time(cron: CronSim, local: datetime) -> bool:
    return local.hour in cron.hours and local.minute in cron.minutes
