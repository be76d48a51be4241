"""The geometry of charts, in percent of their width and height; templates draw it as SVG."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

_STEPS = (60, 120, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000)
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of an axis: where, and what stands there; `at` is a time (seconds since 1970) for the time axis."""

    place: float
    label: str
    at: float | None = None
    form: str = "minute"


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """A span of time from left to right; seconds since 1970."""

    since: float
    until: float

    def place(self, at: float) -> float:
        """Return where a time is, in percent; what is outside of the span is at its edge."""
        return round(100 * min(1.0, max(0.0, (at - self.since) / (self.until - self.since))), 3)

    def ticks(self, most: int = 7) -> list[Tick]:
        """Return marks at round times (UTC), at most `most` of them."""
        step = next((one for one in _STEPS if (self.until - self.since) / one <= most), _STEPS[-1])
        first = math.ceil(self.since / step) * step
        form = "day" if step >= _DAY else "minute"
        text = "%d %b" if step >= _DAY else "%H:%M"
        places = range(int(first), int(self.until) + 1, step)
        return [Tick(self.place(at), datetime.fromtimestamp(at, UTC).strftime(text), at, form) for at in places]


def top_of(values: Sequence[float], least: float = 1.0) -> float:
    """Return a round number that is at least the largest value: 1, 2 or 5 times a power of ten."""
    largest = max([least, *values])
    power = 10.0 ** math.floor(math.log10(largest))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= largest * (1 - 1e-9))


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a stacked bar, in percent from the left and from the top."""

    kind: str
    x: float
    y: float
    width: float
    height: float


def stacked(columns: Sequence[Sequence[tuple[str, float]]], top: float, gap: float = 0.2) -> list[list[Bar]]:
    """Return bars side by side, each a stack of (kind, value) from the bottom up; `gap` is a share of a column."""
    width = 100 / max(1, len(columns))
    made = []
    for number, parts in enumerate(columns):
        bars, below = [], 0.0
        for kind, value in parts:
            if value > 0:
                height = 100 * value / top
                below += height
                x = (number + gap / 2) * width
                bars.append(
                    Bar(kind, round(x, 3), round(100 - below, 3), round(width * (1 - gap), 3), round(height, 3))
                )
        made.append(bars)
    return made


def line(points: Sequence[tuple[float, float | None]], axis: TimeAxis, top: float, longest_gap: float) -> str:
    """Return the SVG path of (time, value) points; it breaks where a value is None, or `longest_gap` seconds lack."""
    return " ".join("M" + " L".join(f"{x} {y}" for x, y in run) for run in _runs(points, axis, top, longest_gap))


def area(points: Sequence[tuple[float, float | None]], axis: TimeAxis, top: float, longest_gap: float) -> str:
    """Return the SVG path of what lies below the points, as `line` draws them."""
    runs = list(_runs(points, axis, top, longest_gap))
    return " ".join(
        f"M{run[0][0]} 100 L" + " L".join(f"{x} {y}" for x, y in run) + f" L{run[-1][0]} 100Z" for run in runs
    )


def _runs(
    points: Sequence[tuple[float, float | None]], axis: TimeAxis, top: float, longest_gap: float
) -> Iterator[list[tuple[float, float]]]:
    run: list[tuple[float, float]] = []
    before = math.inf
    for at, value in points:
        if run and (value is None or at - before > longest_gap):
            yield run
            run = []
        if value is not None:
            run.append((axis.place(at), round(100 * (1 - min(1.0, value / top)), 2)))
            before = at
    if run:
        yield run
