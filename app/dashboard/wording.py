"""How templates write numbers and times."""

import time
from datetime import UTC, datetime

from markupsafe import Markup

from app.formats import duration

UNKNOWN = "\N{EN DASH}"
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0  # years 1 to 9999: there are no dates of other seconds since 1970
_TEXT = {"time": "%H:%M:%S", "minute": "%H:%M", "day": "%a %d %b", "moment": "%d %b %H:%M:%S"}


def iso(at: float) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def when(at: float | None, form: str = "moment") -> str | Markup:
    """Return a time as `time`, `minute`, `day` or `moment`: in UTC, which the browser turns into its reader's zone."""
    if at is None or not _FIRST <= at < _LAST:
        return UNKNOWN
    text = datetime.fromtimestamp(at, UTC).strftime(_TEXT[form])
    return Markup('<time datetime="{}" data-local="{}">{}</time>').format(iso(at), form, text)


def ago(at: float | None) -> str | Markup:
    """Return how long ago a time was, or in how long it will be."""
    if at is None or not _FIRST <= at < _LAST:
        return UNKNOWN
    seconds = time.time() - at
    words = f"{short(seconds)} ago" if seconds > 0 else f"in {short(-seconds)}"
    if abs(seconds) < 1:
        words = "now"
    return Markup('<time datetime="{}">{}</time>').format(iso(at), words)


def short(seconds: float | None) -> str:
    """Return seconds as `duration` does, whole ones where there are some."""
    if seconds is None:
        return UNKNOWN
    return f"{seconds:.0f} s" if 1 <= seconds < 59.5 else duration(seconds)


def count(number: float | None) -> str:
    """Return a whole number with its thousands apart."""
    return UNKNOWN if number is None else f"{number:,.0f}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: `1 job`, `2 jobs`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
