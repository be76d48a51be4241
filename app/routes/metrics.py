"""Metrics for Prometheus."""

from typing import Any

from fastapi import APIRouter, Response

from app.context import Shared
from app.metrics import CONTENT_TYPE

_EXAMPLE = """# HELP reelq_jobs Jobs kept, by status.
# TYPE reelq_jobs gauge
reelq_jobs{status="queued"} 3.0
reelq_jobs{status="running"} 2.0
"""
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Prometheus' text format",
        "content": {"text/plain": {"schema": {"type": "string"}, "examples": {"some": {"value": _EXAMPLE}}}},
    }
}

router = APIRouter(tags=["admin"])


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response, responses=_ANSWER)
def get_metrics(context: Shared) -> Response:
    """Tell of the queue, waits, attempts, GPUs and disks, and of this process's requests.

    What the database knows is read from it, so all front ends tell the same; it is up to a second old, or older where
    it takes long to read. Counters of attempts begin at 0 again at midnight (UTC), which `rate` and `increase` see
    through. Series with the label `pid` are of the one process that has answered.
    """
    return Response(context.metrics.text(), media_type=CONTENT_TYPE)
