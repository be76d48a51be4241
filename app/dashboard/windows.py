"""The spans of time that a reader may look at."""

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.errors import InvalidParameter

_LEAST_REFRESH_SECONDS, _MOST_REFRESH_SECONDS = 2.0, 60.0
_SEEN = 1200  # nobody sees a curve move by less than such a part of it


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time by its name in a URL, how people call it, and how long it is."""

    name: str
    words: str
    seconds: float

    @property
    def refresh_seconds(self) -> float:
        """How long a chart of it is good for."""
        return min(_MOST_REFRESH_SECONDS, max(_LEAST_REFRESH_SECONDS, self.seconds / _SEEN))


WINDOWS = (
    Window("1h", "1 hour", 3600.0),
    Window("6h", "6 hours", 21_600.0),
    Window("24h", "24 hours", 86_400.0),
    Window("7d", "7 days", 604_800.0),
    Window("30d", "30 days", 2_592_000.0),
)


def window(name: str, windows: Sequence[Window] = WINDOWS, field: str = "window") -> Window:
    """Return the one of that name; raises `InvalidParameter` for the field, which names them all."""
    for one in windows:
        if one.name == name:
            return one
    raise InvalidParameter(field, f"must be one of {', '.join(one.name for one in windows)}, not {name[:40]!r}")
