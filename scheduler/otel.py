"""The tracer that is on: OpenTelemetry's SDK, sending OTLP over HTTP. Imported only then.

Spans go into a bounded queue, from which a thread of the SDK sends them: a collector that is slow or away costs spans,
and no job anything. No provider is made the process's global one, so what other libraries would trace stays untraced.
"""

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from scheduler.tracing import Span, Tracer, Value

log = structlog.get_logger(__name__)

_SERVICE = "reelq"
_END_SECONDS = 2.0  # for the last spans
_TRACEPARENT = "traceparent"
_W3C = TraceContextTextMapPropagator()


class OtelTracer(Tracer):
    """Sends spans to where OpenTelemetry's variables say. Raises whatever it makes of values that are none."""

    on = True

    def __init__(self, role: str) -> None:
        # What the environment says of the service (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) comes last, and counts.
        own: Mapping[str, str | int] = {
            "service.name": _SERVICE,
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            "process.pid": os.getpid(),
            "host.name": socket.gethostname(),
            "reelq.role": role,
        }
        resource = Resource(own).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(_SERVICE)

    @contextmanager
    def serving(self, name: str, traceparent: str | None) -> Iterator[None]:
        """Make a span of a request while the block lasts, as part of the caller's trace where `traceparent` is one."""
        span = self._tracer.start_span(name, _context(traceparent), SpanKind.SERVER)
        with trace.use_span(span, end_on_exit=True, record_exception=False):
            yield

    def note(self, attributes: Mapping[str, Value], *, error: bool = False) -> None:
        """Add to the span of the request that is being served, in this task or a thread that works for it."""
        span = trace.get_current_span()
        span.set_attributes(_known(attributes))
        if error:
            span.set_status(StatusCode.ERROR)

    def current(self) -> str | None:
        """Return the `traceparent` of the request that is being served; None where there is none."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get(_TRACEPARENT)

    def record(self, traceparent: str | None, *spans: Span) -> None:
        """Take in spans below `traceparent`; a job that has none is not traced. Never raises."""
        if traceparent is None:
            return
        try:
            for span in spans:
                self._record(span, _context(traceparent))
        except Exception:  # whoever records has a job to end
            log.exception("a trace could not be recorded")

    def close(self) -> None:
        """Send what is left, for a moment at most: a collector that is away is not waited for."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(_END_SECONDS)

    def _record(self, span: Span, context: Context) -> None:
        kind = SpanKind.CLIENT if span.outgoing else SpanKind.INTERNAL
        made = self._tracer.start_span(
            span.name, context, kind, _known(span.attributes), start_time=_nanoseconds(span.start)
        )
        if span.error is not None:
            made.set_status(StatusCode.ERROR, span.error)
        below = trace.set_span_in_context(made, context)
        for child in span.children:
            self._record(child, below)
        made.end(_nanoseconds(max(span.start, span.end)))


def _context(traceparent: str | None) -> Context:
    """What a span belongs to; one that is not as W3C has it counts as none."""
    return _W3C.extract({} if traceparent is None else {_TRACEPARENT: traceparent}, Context())


def _known(attributes: Mapping[str, Value]) -> dict[str, str | int | float | bool]:
    return {name: value for name, value in attributes.items() if value is not None}


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
