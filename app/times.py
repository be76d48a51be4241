"""Times as callers write them."""

import re
from datetime import datetime

from scheduler.errors import InvalidParameter

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_time(field: str, text: str) -> float:
    """Return an RFC 3339 time as seconds since 1970; raises `InvalidParameter`, which names the field."""
    try:
        at = datetime.fromisoformat(text.upper()).timestamp() if _RFC3339.fullmatch(text) else None
    except (ValueError, OverflowError):  # February 30th, or before the first year
        at = None
    if at is None:
        wanted = "must be an RFC 3339 time with its offset from UTC, such as 2030-01-31T18:00:00Z"
        raise InvalidParameter(field, f"{wanted}, not {text[:40]!r}")
    return at
