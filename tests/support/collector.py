"""An OpenTelemetry collector: a real OTLP/HTTP receiver on a free port, which keeps the spans that it is sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Received:
    """A span as it came. Ids are hexadecimal, `parent` is "" for none; times are seconds since 1970."""

    name: str
    trace: str
    id: str
    parent: str
    start: float
    end: float
    kind: int
    error: str | None
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """What has come so far, and where it comes; while `refusing`, every request is answered 503.

    Other paths than that of traces take anything.
    """

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.refusing = False
        self.endpoint = ""

    def of_job(self, job_id: str) -> dict[str, Received]:
        """The spans of the trace that a job's submission is in, by name; of several the last."""
        traces = {span.trace for span in self.spans if span.attributes.get("reelq.job_id") == job_id}
        return {span.name: span for span in self.spans if span.trace in traces}

    def take(self, body: bytes) -> None:
        """Keep the spans of a request."""
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            resource = _values(group.resource.attributes)
            self.spans += [_received(span, resource) for scope in group.scope_spans for span in scope.spans]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector while the block lasts."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces" and not collector.refusing:
                collector.take(body)
            self.send_response(503 if collector.refusing else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    collector.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _received(span: Any, resource: dict[str, Any]) -> Received:
    return Received(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        kind=span.kind,
        error=span.status.message if span.status.code == 2 else None,
        attributes=_values(span.attributes),
        resource=resource,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
