"""What was seen of a GPU over time, as curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.dashboard import charts
from app.formats import size
from scheduler.samples import Level, Series

_GAP = 2.5  # so many points may lack before a curve breaks
_GIB = 2**30
_ALL_PERCENT = 100.0  # and as good an upper edge for watts and degrees
_GAUGES = (
    ("Utilisation", "good", "utilization_percent", "%"),
    ("Power", "foreign", "power_watts", "W"),
    ("Temperature", "bad", "temperature_celsius", "°C"),
)


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a chart, or the area below it, as an SVG path; `kind` is its colour."""

    kind: str
    name: str
    path: str
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A gauge over time. `words` tell its numbers to those who do not see it; `top` is what its upper edge means."""

    title: str
    top: str
    words: str
    curves: Sequence[Curve]


def of_gpu(series: Series, axis: charts.TimeAxis, total_bytes: int | None) -> list[Chart]:
    """Return the charts of what was measured; `total_bytes` is None where the GPU is no longer registered."""
    made = [_memory(series, axis, total_bytes)]
    for title, kind, name, unit in _GAUGES:
        if any(_levels(series, name)):
            made.append(_gauge(series, axis, title, kind, name, unit))
    return made


def spark(series: Series, axis: charts.TimeAxis, total_bytes: int) -> Chart:
    """Return memory and utilisation in one small chart, each from none to all."""
    curves = [_curve(series, axis, total_bytes, "job", "memory", "used_bytes", filled=True)]
    words = f"memory {_words(series, 'used_bytes', size)}"
    if any(_levels(series, "utilization_percent")):
        curves.append(_curve(series, axis, _ALL_PERCENT, "good", "utilisation", "utilization_percent"))
        words += f"; utilisation {_words(series, 'utilization_percent', _number('%'))}"
    return Chart("Last hour", "", words, curves)


def _memory(series: Series, axis: charts.TimeAxis, total_bytes: int | None) -> Chart:
    seen = [level.max / _GIB for name in ("used_bytes", "reserved_bytes") for level in _levels(series, name) if level]
    top = total_bytes or charts.top_of(seen) * _GIB
    curves = [
        _curve(series, axis, top, "job", "in use", "used_bytes", filled=True),
        _curve(series, axis, top, "model", "promised to models and jobs", "reserved_bytes"),
        _curve(series, axis, top, "foreign", "held by others", "foreign_bytes"),
    ]
    return Chart("Memory", size(top), _words(series, "used_bytes", size), curves)


def _gauge(series: Series, axis: charts.TimeAxis, title: str, kind: str, name: str, unit: str) -> Chart:
    top = charts.top_of([level.max for level in _levels(series, name) if level], _ALL_PERCENT)
    written = _number(unit)
    curves = [_curve(series, axis, top, kind, "mean", name)]
    return Chart(title, written(top), _words(series, name, written), curves)


def _curve(
    series: Series, axis: charts.TimeAxis, top: float, kind: str, words: str, name: str, *, filled: bool = False
) -> Curve:
    step = series.step_seconds
    middles = [point.at + step / 2 for point in series.points]
    means = [level.mean if level else None for level in _levels(series, name)]
    draw = charts.area if filled else charts.line
    return Curve(kind, words, draw(list(zip(middles, means, strict=True)), axis, top, _GAP * step), filled)


def _levels(series: Series, name: str) -> list[Level | None]:
    return [getattr(point, name) for point in series.points]


def _words(series: Series, name: str, written: Callable[[float], str]) -> str:
    known = [level for level in _levels(series, name) if level]
    if not known:
        return "not measured"
    mean = sum(level.mean for level in known) / len(known)
    return f"now {written(known[-1].mean)}, mean {written(mean)}, peak {written(max(level.max for level in known))}"


def _number(unit: str) -> Callable[[float], str]:
    return lambda value: f"{value:.0f} {unit}"
