"""What an event of the log tells beside its type and who asked for it."""

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from app.dashboard.wording import short, when
from app.formats import size
from scheduler.events import Event

_WRITTEN: dict[str, Callable[[float], str | Markup]] = {"at": when, "bytes": size, "seconds": short}


def details(event: Event) -> list[tuple[str, str | Markup]]:
    """Return its data as pairs of a name and words, without what is not there: bytes, seconds and times as such."""
    return [_pair(name, value) for name, value in event.data.items() if value not in (None, "", [], {})]


def _pair(name: str, value: Any) -> tuple[str, str | Markup]:
    plain, _, unit = name.rpartition("_")
    if isinstance(value, int | float) and unit in _WRITTEN:
        return plain.replace("_", " "), _WRITTEN[unit](value)
    words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return name.replace("_", " "), words
