"""Timeline: what ran on each GPU and when, over its memory."""

import time
from functools import partial
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from app.access import Caller, known_gpu
from app.context import Shared
from app.dashboard import gantt
from app.dashboard.rendering import render
from app.dashboard.windows import WINDOWS, Window, window
from app.dashboard.wording import iso
from app.times import parse_time

_WINDOWS = (Window("10m", "10 minutes", 600.0), *WINDOWS)

router = APIRouter(include_in_schema=False)


@router.get("/timeline")
def get_timeline(
    request: Request,
    context: Shared,
    caller: Caller,
    span: str = "1h",
    until: str | None = None,
    gpu: str | None = None,
) -> Response:
    """Return what ran in a span of time until `until` (RFC 3339; now), on all GPUs or one."""
    chosen, now = window(span, _WINDOWS, "span"), time.time()
    end = None if until is None else min(now, parse_time("until", until))  # None: always now
    of = None if gpu is None else known_gpu(gpu)
    found = context.scheduler.timeline.read((end or now) - chosen.seconds, end, of)
    drawn = gantt.lay_out(found, partial(_closer, chosen))
    return render(
        request,
        caller,
        "timeline.html",
        title="Timeline",
        refresh_seconds=chosen.refresh_seconds if end is None else 0,
        gantt=drawn,
        kinds=gantt.KINDS,
        sizes=gantt,
        ticks=drawn.axis.ticks(),
        span=chosen,
        live=end is None,
        gpu_id=of,
        spans=[(one, url(one, end, of)) for one in _WINDOWS],
        earlier=url(chosen, (end or now) - chosen.seconds, of),
        later=None if end is None else url(chosen, end + chosen.seconds if end + chosen.seconds < now else None, of),
        latest=url(chosen, None, of),
        everything=url(chosen, end),
        only={track.row.gpu_id: url(chosen, end, track.row.gpu_id) for track in drawn.tracks},
    )


def url(span: Window, until: float | None = None, gpu_id: str | None = None) -> str:
    """Return where a span of time is shown that ends at `until`; None: that is always now."""
    query = {"span": span.name, "until": None if until is None else iso(until), "gpu": gpu_id}
    return "/timeline?" + urlencode({name: value for name, value in query.items() if value is not None})


def _closer(span: Window, gpu_id: str, middle: float) -> str:
    """Where a moment of a GPU is seen in the next shorter span; where there is none, the jobs that it had."""
    shorter = [one for one in _WINDOWS if one.seconds < span.seconds]
    if not shorter:
        return "/jobs?" + urlencode({"gpu": gpu_id})
    return url(shorter[-1], middle + shorter[-1].seconds / 2, gpu_id)
