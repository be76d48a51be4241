"""Calls a second, and how long each takes: callers that call again as soon as they have their answer."""

import base64
from collections.abc import Sequence
from typing import Any

from benchmarks.http.contestants import Server
from benchmarks.http.processes import play
from benchmarks.queue.timing import spread

_WARM_UP_SECONDS = 0.5


def measure(server: Server, kind: str, *, connections: int, seconds: float) -> dict[str, float]:
    """Call with one kind of request; returns the rate, the latencies' spread, and the processor time of both sides."""
    before = server.meter.cpu_seconds()
    result = play("calls", spec(server, kind, connections, seconds, warm_up_seconds=_WARM_UP_SECONDS), server.log)
    server_seconds = server.meter.cpu_seconds() - before
    answers = result["answers"]
    return {
        "per_second": round(result["per_second"], 1),
        **spread(result["latencies"]),
        "server_ms_each": round(server_seconds / answers * 1000, 3),
        "client_ms_each": round(result["cpu_seconds"] / answers * 1000, 3),
    }


def spec(server: Server, kind: str, connections: int, seconds: float, *, warm_up_seconds: float) -> dict[str, Any]:
    """Return what the load generator is told."""
    return {
        "port": server.port,
        "requests": encoded(server.requests[kind]),
        "status": server.status[kind],
        "connections": connections,
        "seconds": seconds,
        "warm_up_seconds": warm_up_seconds,
    }


def encoded(requests: Sequence[bytes]) -> list[str]:
    """Return requests as the load generator reads them."""
    return [base64.b64encode(one).decode() for one in requests]
