"""Requests are counted by what they were for, in a bounded number of series."""

from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from app.traffic import Traffic

JOB = SimpleNamespace(path="/v1/jobs/{job_id}")


def scope(method: str = "GET", route: Any = JOB) -> dict[str, Any]:
    return {"method": method, "path": "/v1/jobs/job_1"} | ({} if route is None else {"route": route})


def registry(traffic: Traffic) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(traffic)
    return registry


def test_requests_of_one_route_are_one_series_for_each_class_of_status() -> None:
    traffic = Traffic()
    for status in (200, 204, 304, 404, 410, 500):
        traffic.count(scope(), status, 0.02)
    told = registry(traffic)
    counts = {
        status: told.get_sample_value(
            "reelq_http_requests_total", {"method": "GET", "route": JOB.path, "status": status}
        )
        for status in ("2xx", "3xx", "4xx", "5xx")
    }
    assert counts == {"2xx": 2, "3xx": 1, "4xx": 2, "5xx": 1}


def test_seconds_are_sorted_into_buckets() -> None:
    traffic = Traffic()
    for seconds in (0.0, 0.01, 0.011, 1000.0):
        traffic.count(scope(), 200, seconds)
    told = registry(traffic)
    of = {"method": "GET", "route": JOB.path}
    assert told.get_sample_value("reelq_http_request_seconds_bucket", of | {"le": "0.01"}) == 2
    assert told.get_sample_value("reelq_http_request_seconds_bucket", of | {"le": "60.0"}) == 3
    assert told.get_sample_value("reelq_http_request_seconds_bucket", of | {"le": "+Inf"}) == 4
    assert told.get_sample_value("reelq_http_request_seconds_sum", of) == 1000.021


def test_what_callers_make_up_is_one_series() -> None:
    traffic = Traffic()
    for number in range(50):
        traffic.count(scope(method=f"MADE{number}", route=None), 405, 0.0)
    told = registry(traffic)
    of = {"method": "other", "route": "none", "status": "4xx"}
    assert told.get_sample_value("reelq_http_requests_total", of) == 50
