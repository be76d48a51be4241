"""What was seen of a GPU over time, as curves."""

from typing import Any

from app.dashboard import history
from app.dashboard.charts import TimeAxis
from scheduler.samples import Level, Point, Series
from scheduler.timeline import Curve
from tests.support.fleet import GIB

AXIS = TimeAxis(0.0, 100.0)
NOTHING: dict[str, Any] = dict.fromkeys(
    ("used_bytes", "foreign_bytes", "reserved_bytes", "utilization_percent", "power_watts", "temperature_celsius")
)


def point(at: int, **known: float) -> Point:
    levels = {name: Level(value, value * 1.5) for name, value in known.items()}
    facts = {"samples": 1, "problems": 0, "seconds": 10.0, "busy_seconds": 0.0, "hot_share": None}
    return Point(at=at, **facts, **(NOTHING | levels))  # type: ignore[arg-type]  # a mixture


def test_a_gauge_that_was_never_measured_has_no_chart() -> None:
    series = Series(10, [point(0, used_bytes=GIB)])
    assert [chart.title for chart in history.of_gpu(series, AXIS, 4 * GIB)] == ["Memory"]


def test_each_gauge_has_its_chart_and_numbers() -> None:
    known = {"used_bytes": GIB, "utilization_percent": 50.0, "power_watts": 200.0, "temperature_celsius": 60.0}
    series = Series(10, [point(0, **known), point(10, **known)])
    charts = {chart.title: chart for chart in history.of_gpu(series, AXIS, 4 * GIB)}
    assert list(charts) == ["Memory", "Utilisation", "Power", "Temperature"]
    assert (charts["Memory"].top_words, charts["Memory"].words) == (
        "4.0 GiB",
        "now 1.0 GiB, mean 1.0 GiB, peak 1.5 GiB",
    )
    assert (charts["Power"].top_words, charts["Power"].words) == ("500 W", "now 200 W, mean 200 W, peak 300 W")
    assert charts["Utilisation"].curves[0].path == "M5.0 50.0 L15.0 50.0"
    used, promised, foreign = charts["Memory"].curves
    assert (used.filled, used.path) == (True, "M5.0 100 L5.0 75.0 L15.0 75.0 L15.0 100Z")
    assert (promised.path, foreign.path) == ("", "")


def test_memory_that_nobody_could_read_is_told() -> None:
    (chart,) = history.of_gpu(Series(10, [point(0)]), AXIS, None)
    assert (chart.top_words, chart.words) == ("1.0 GiB", "not measured")


def test_a_gpu_that_is_gone_is_drawn_up_to_what_it_held() -> None:
    (chart,) = history.of_gpu(Series(10, [point(0, used_bytes=10 * GIB)]), AXIS, None)
    assert chart.top_words == "20.0 GiB"


def test_a_curve_breaks_where_nobody_looked() -> None:
    series = Series(10, [point(0, used_bytes=GIB), point(50, used_bytes=GIB)])
    assert history.of_gpu(series, AXIS, 4 * GIB)[0].curves[0].path.count("M") == 2


def test_the_small_chart_has_memory_and_utilisation() -> None:
    seen = Curve(0, 10, [GIB, 3 * GIB], [None, None], [None, None], [20.0, 80.0])
    chart = history.spark(seen, AXIS, 4 * GIB)
    assert [(curve.name, curve.path) for curve in chart.curves] == [
        ("memory", "M5.0 100 L5.0 75.0 L15.0 25.0 L15.0 100Z"),
        ("utilisation", "M5.0 80.0 L15.0 20.0"),
    ]
    assert chart.words == ("memory now 3.0 GiB, mean 2.0 GiB, peak 3.0 GiB; utilisation now 80 %, mean 50 %, peak 80 %")
    unknown = history.spark(Curve(0, 10, [], [], [], []), AXIS, 4 * GIB)
    assert (unknown.words, len(unknown.curves)) == ("memory not measured", 1)
