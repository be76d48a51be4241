"""What was seen of a GPU over time, as curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.dashboard import charts
from app.formats import size
from scheduler.samples import Level, Series
from scheduler.timeline import Curve as Means

_GAP = 2.5  # so many points may lack before a curve breaks
_GIB = 2**30
_BYTES = "bytes"
_ALL_PERCENT = 100.0  # and as good an upper edge for watts and degrees
_GAUGES = (
    ("Utilisation", "good", "utilization_percent", "%"),
    ("Power", "foreign", "power_watts", "W"),
    ("Temperature", "bad", "temperature_celsius", "°C"),
)

Draw = Callable[[Sequence[tuple[float, float | None]], charts.TimeAxis, float, float], str]


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a chart, or the area below it, as an SVG path; `kind` is its colour."""

    kind: str
    name: str
    path: str
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A gauge over time. `words` tell its numbers to those who do not see it; its upper edge is `top` of its `unit`."""

    title: str
    words: str
    curves: Sequence[Curve]
    top: float
    unit: str

    @property
    def top_words(self) -> str:
        """What stands at its upper edge."""
        return _written(self.unit)(self.top)


def of_gpu(series: Series, axis: charts.TimeAxis, total_bytes: int | None) -> list[Chart]:
    """Return the charts of what was measured; `total_bytes` is None where the GPU is no longer registered."""
    made = [_memory(series, axis, total_bytes)]
    for title, kind, name, unit in _GAUGES:
        if any(_levels(series, name)):
            made.append(_gauge(series, axis, title, kind, name, unit))
    return made


def spark(seen: Means, axis: charts.TimeAxis, total_bytes: int) -> Chart:
    """Return memory and utilisation in one small chart, each from none to all."""
    curves = [Curve("job", "memory", drawn(seen, seen.used_bytes, axis, total_bytes, charts.area), filled=True)]
    words = f"memory {_words(seen.used_bytes, size)}"
    if any(value is not None for value in seen.utilization_percent):
        path = drawn(seen, seen.utilization_percent, axis, _ALL_PERCENT, charts.line)
        curves.append(Curve("good", "utilisation", path))
        words += f"; utilisation {_words(seen.utilization_percent, _written('%'))}"
    return Chart("Last hour", words, curves, _ALL_PERCENT, "%")


def drawn(seen: Means, values: Sequence[float | None], axis: charts.TimeAxis, top: float, draw: Draw) -> str:
    """Return a gauge's means as the path of a line or an area."""
    return draw(_middles(seen.first, seen.step_seconds, values), axis, top, _GAP * seen.step_seconds)


def _memory(series: Series, axis: charts.TimeAxis, total_bytes: int | None) -> Chart:
    seen = [level.max / _GIB for name in ("used_bytes", "reserved_bytes") for level in _levels(series, name) if level]
    top = total_bytes or charts.top_of(seen) * _GIB
    curves = [
        _curve(series, axis, top, "job", "in use", "used_bytes", filled=True),
        _curve(series, axis, top, "model", "promised to models and jobs", "reserved_bytes"),
        _curve(series, axis, top, "foreign", "held by others", "foreign_bytes"),
    ]
    return Chart("Memory", _level_words(series, "used_bytes", size), curves, top, _BYTES)


def _gauge(series: Series, axis: charts.TimeAxis, title: str, kind: str, name: str, unit: str) -> Chart:
    top = charts.top_of([level.max for level in _levels(series, name) if level], _ALL_PERCENT)
    curves = [_curve(series, axis, top, kind, "mean", name)]
    return Chart(title, _level_words(series, name, _written(unit)), curves, top, unit)


def _curve(
    series: Series, axis: charts.TimeAxis, top: float, kind: str, words: str, name: str, *, filled: bool = False
) -> Curve:
    step = series.step_seconds
    points = [
        (point.at + step / 2, level.mean if level else None)
        for point, level in zip(series.points, _levels(series, name), strict=True)
    ]
    draw = charts.area if filled else charts.line
    return Curve(kind, words, draw(points, axis, top, _GAP * step), filled)


def _levels(series: Series, name: str) -> list[Level | None]:
    return [getattr(point, name) for point in series.points]


def _level_words(series: Series, name: str, written: Callable[[float], str]) -> str:
    known = [level for level in _levels(series, name) if level]
    return _words([level.mean for level in known], written, max((level.max for level in known), default=0.0))


def _words(means: Sequence[float | None], written: Callable[[float], str], peak: float | None = None) -> str:
    known = [mean for mean in means if mean is not None]
    if not known:
        return "not measured"
    highest = max(known) if peak is None else peak
    return f"now {written(known[-1])}, mean {written(sum(known) / len(known))}, peak {written(highest)}"


def _middles(first: float, step: float, values: Sequence[float | None]) -> list[tuple[float, float | None]]:
    return [(first + (number + 0.5) * step, value) for number, value in enumerate(values)]


def _written(unit: str) -> Callable[[float], str]:
    return size if unit == _BYTES else lambda value: f"{value:.0f} {unit}"
