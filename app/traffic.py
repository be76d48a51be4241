"""How the requests to this process go: counted by method, route and class of status, and timed."""

from collections.abc import Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

NO_ROUTE = "none"  # refused before a route was found, or there is none of that path
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER = "other"  # a method of the caller's own making: series cannot be had for the asking
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Traffic(Collector):
    """Counts requests. `count` is for the event loop, `collect` for any thread.

    A request's seconds end where its answer begins: how fast a caller takes a video or follows a stream says nothing of
    the service. What a caller asks to wait for (`?wait=`) is among them, and so is the time its body takes to come.
    """

    def __init__(self) -> None:
        self._requests = Counter(
            "reelq_http_requests",
            "Requests to this process that were answered.",
            ["method", "route", "status"],
            registry=None,
        )
        self._seconds = Histogram(
            "reelq_http_request_seconds",
            "Seconds from a request's head to the beginning of its answer, ?wait= and uploads included.",
            ["method", "route"],
            buckets=_BOUNDS,
            registry=None,
        )
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # `labels` takes longer than counting

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request, by the route that has answered it."""
        method, route = scope["method"], scope.get("route")
        key = (method if method in _METHODS else _OTHER, NO_ROUTE if route is None else route.path, status // 100)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._labelled(*key)
        requests, timed = series
        requests.inc()
        timed.observe(seconds)

    def _labelled(self, method: str, route: str, hundreds: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(method, route, f"{hundreds}xx"), self._seconds.labels(method, route)

    def collect(self) -> Iterator[Metric]:
        """Yield what was counted."""
        yield from self._requests.collect()
        yield from self._seconds.collect()
