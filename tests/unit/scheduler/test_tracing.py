"""When there are traces, and what becomes of them where something is wrong."""

import subprocess
import sys
import threading

import pytest
from structlog.testing import capture_logs

from scheduler.tracing import OFF, Span, open_tracer
from tests.support.collector import collecting
from tests.support.service import wait_for

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "  "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", "OTEL_SDK_DISABLED": "true"},
    ],
    ids=str,
)
def test_it_is_off_unless_asked_for(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with capture_logs() as logged:
        assert open_tracer("test") is OFF
    assert logged == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
    ],
)
def test_what_cannot_be_used_is_told_and_turns_it_off(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:1")
    monkeypatch.setenv(name, value)
    with capture_logs() as logged:
        assert open_tracer("test") is OFF
    (line,) = logged
    assert (line["log_level"], line["event"].startswith("no traces")) == ("warning", True)


def test_without_the_extra_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:1")
    monkeypatch.delitem(sys.modules, "scheduler.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with capture_logs() as logged:
        assert open_tracer("test") is OFF
    (line,) = logged
    assert "'otel' is not installed" in line["event"]


@pytest.mark.parametrize(
    ("imports", "unwanted"),
    [
        ("workers.gpu_worker, workers.supervisor, workers.pipelines.i2vgen_xl", "opentelemetry"),
        ("scheduler.service", "opentelemetry"),
        ("app.main", "opentelemetry.sdk"),  # FastAPI itself imports the API
        ("app.main", "opentelemetry.exporter"),
    ],
)
def test_off_it_imports_nothing(imports: str, unwanted: str) -> None:
    code = f"""
import sys, {imports}
from scheduler.tracing import open_tracer
tracer = open_tracer("test")
tracer.record("{PARENT}")
tracer.close()
sys.exit(any(name.startswith("{unwanted}") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_spans_keep_their_order_their_times_and_their_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "videos")
        tracer = open_tracer("test")
        child = Span("child", 1000.25, 1000.5, {"known": 7, "unknown": None})
        tracer.record(PARENT, Span("whole", 1000.0, 1001.0, {"words": "yes"}, (child,), error="out of luck"))
        tracer.record(None, Span("of a job that is not traced", 0.0, 1.0))
        tracer.close()
        found = {span.name: span for span in collector.spans}
    assert found.keys() == {"whole", "child"}
    whole, inner = found["whole"], found["child"]
    assert f"00-{whole.trace}-{whole.parent}-01" == PARENT
    assert inner.parent == whole.id
    assert (whole.start, whole.end, whole.error) == (1000.0, 1001.0, "out of luck")
    assert (inner.start, inner.end, inner.error, inner.attributes) == (1000.25, 1000.5, None, {"known": 7})
    assert whole.resource["service.name"] == "videos"


@pytest.mark.parametrize("given", [None, "", "nonsense", f"{PARENT}x", PARENT.replace("00-", "ff-"), "é" * 600])
def test_a_request_begins_a_trace_where_it_belongs_to_none(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        tracer = open_tracer("test")
        assert tracer.current() is None
        with tracer.serving("submit", given):
            current = tracer.current()
            tracer.note({"status": 503}, error=True)
        tracer.close()
        (span,) = collector.spans
    assert current is not None
    assert current.startswith(f"00-{span.trace}-{span.id}-0")
    assert (span.parent, span.error, span.attributes) == ("", "", {"status": 503})


def test_a_collector_that_is_away_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
        collector.refusing = True
        tracer = open_tracer("test")
        for number in range(5000):  # more than the queue holds
            tracer.record(PARENT, Span(f"span {number}", 0.0, 1.0))
        tracer.close()
        assert collector.spans == []
    wait_for(lambda: not _sending(), "the sender to give up")


def _sending() -> bool:
    return any(thread.name == "traces-end" for thread in threading.enumerate())
