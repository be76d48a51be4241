"""Traces of jobs, over the processes that they pass through: spans, and what takes them in.

Off, which is the default, a `Tracer` does nothing, and nothing of OpenTelemetry is imported. On, it is `OtelTracer`
(`scheduler.otel`): where the extra `otel` is installed, and OpenTelemetry's own variables say where spans are sent.

Stages are not traced while they run: their times are recorded anyway, and spans are made of them when an attempt has
ended. What crosses from one process to another is a W3C `traceparent`, in the job's row.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)

Value = str | int | float | bool | None  # None: not known, and left out

_PROTOCOL = "http/protobuf"


@dataclass(frozen=True, slots=True)
class Span:
    """Something that is over: from `start` to `end` in seconds since 1970. `error` says why it failed, if it did.

    `outgoing` is a request to somebody else.
    """

    name: str
    start: float
    end: float
    attributes: Mapping[str, Value] = field(default_factory=dict)
    children: tuple["Span", ...] = ()
    error: str | None = None
    outgoing: bool = False


class Tracer:
    """A tracer that is off; each call costs next to nothing. Thread-safe."""

    on = False

    def serving(self, name: str, traceparent: str | None) -> AbstractContextManager[None]:  # noqa: ARG002
        """Make a span of a request while the block lasts, as part of the caller's trace where `traceparent` is one."""
        return nullcontext()

    def note(self, attributes: Mapping[str, Value], *, error: bool = False) -> None:
        """Add to the span of the request that is being served, in this task or a thread that works for it."""

    def current(self) -> str | None:
        """Return the `traceparent` of the request that is being served; None where there is none."""
        return None

    def record(self, traceparent: str | None, *spans: Span) -> None:
        """Take in spans below `traceparent`; a job that has none is not traced. Never raises."""

    def close(self) -> None:
        """Send what is left, for a moment at most."""


OFF = Tracer()


def open_tracer(role: str) -> Tracer:
    """Return the tracer that the environment asks for; `role` says what this process is.

    What stands in the way of one is logged, and there are no traces then.
    """
    if not _asked_for():
        return OFF
    protocol = _variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or _variable("OTEL_EXPORTER_OTLP_PROTOCOL") or _PROTOCOL
    exporter = _variable("OTEL_TRACES_EXPORTER") or "otlp"
    if (exporter, protocol) != ("otlp", _PROTOCOL):
        log.warning(f"no traces: they are sent by otlp over {_PROTOCOL} only", exporter=exporter, protocol=protocol)
        return OFF
    try:
        from scheduler.otel import OtelTracer

        return OtelTracer(role)
    except ModuleNotFoundError as error:
        log.warning("no traces: the extra 'otel' is not installed", missing=error.name)
    except Exception as error:  # noqa: BLE001  OpenTelemetry's variables are checked by it alone, each in its own way
        log.warning("no traces", error=str(error))
    return OFF


def _asked_for() -> bool:
    """Whether the environment names an exporter or its endpoint, and does not rule traces out."""
    exporter = _variable("OTEL_TRACES_EXPORTER")
    if _variable("OTEL_SDK_DISABLED").lower() == "true" or exporter == "none":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return bool(exporter) or any(map(_variable, endpoints))


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()
