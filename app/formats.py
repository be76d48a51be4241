"""Numbers as people read them."""

import math
from datetime import UTC, datetime

_LEAST_MONEY = 0.0001
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_LONG = 2 * _DAY  # from when on durations are told in days


def size(number_of_bytes: float) -> str:
    """Return bytes as B, KiB, MiB or GiB."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number_of_bytes >= factor:
            return f"{number_of_bytes / factor:.1f} {unit}"
    return f"{number_of_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Return seconds as `4.2 s`, `3m 05s`, `2h 07m` or `8d 12h`."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE:02d}s"
    if whole < _LONG:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE:02d}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR:02d}h"


def age(created_at: str, now: datetime | None = None) -> str:
    """Return the time since an RFC 3339 time in at most four characters: `12s`, `5m`, `3h`, `20d`."""
    seconds = max(0.0, ((now or datetime.now(UTC)) - datetime.fromisoformat(created_at)).total_seconds())
    for unit, factor in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE)):
        if seconds >= factor:
            return f"{seconds // factor:.0f}{unit}"
    return f"{seconds:.0f}s"


def whole_second(time: str) -> str:
    """Return an RFC 3339 time without its fraction of a second: `2026-11-30T00:00:00Z`."""
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def energy(joules: float) -> str:
    """Return joules as J or kJ."""
    return f"{joules / 1000:.1f} kJ" if joules >= 1000 else f"{joules:.0f} J"


def money(amount: float) -> str:
    """Return a sum, in whatever currency the operator reckons: to cents, or four digits, which a video's may need."""
    if amount < _LEAST_MONEY:
        return f"below {_LEAST_MONEY}" if amount else "0"
    places = max(2, 3 - math.floor(math.log10(amount)))
    whole, _, parts = f"{amount:,.{places}f}".partition(".")
    return f"{whole}.{parts.rstrip('0').ljust(2, '0')}"


def percent(fraction: float) -> str:
    """Return a fraction as whole percent; 100 % only when all is done."""
    return f"{int(fraction * 100)}%"
