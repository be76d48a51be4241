"""GPUs: what each holds, does and did, and what an operator lets it do."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from app.access import Caller, known_gpu
from app.context import Context, Shared
from app.dashboard import charts, history, windows
from app.dashboard.details import details
from app.dashboard.memory import Segment, segments
from app.dashboard.rendering import render
from scheduler.errors import NotFound
from scheduler.records import Gpu
from scheduler.timeline import Curve

_REFRESH_SECONDS = 2.0
_HOUR = 3600.0
_SPARK_POINTS = 60
_MOST_CARDS = 12  # more GPUs than that are a list, unless the reader wants cards
_EVENTS = 50

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """A GPU as the page draws it."""

    gpu: Gpu
    segments: list[Segment]
    spark: history.Chart | None


@router.get("/gpus")
def get_gpus(
    request: Request,
    context: Shared,
    caller: Caller,
    shown_as: Annotated[Literal["cards", "list"] | None, Query(alias="as")] = None,
) -> Response:
    """Return all GPUs, and the queue's switch."""
    scheduler, now = context.scheduler, time.time()
    gpus = scheduler.fleet.gpus()
    return render(
        request,
        caller,
        "gpus.html",
        title="GPUs",
        refresh_seconds=_REFRESH_SECONDS,
        seen=_seen(context, gpus, now),
        shown_as=shown_as or ("cards" if len(gpus) <= _MOST_CARDS else "list"),
        hosts=sorted({gpu.info.host for gpu in gpus}),
        states=_states(gpus),
        queue=scheduler.control.state(),
        capacity=context.capacity.state() if context.capacity is not None else None,
    )


@router.get("/gpus/{gpu_id:path}")
def get_gpu(gpu_id: str, request: Request, context: Shared, caller: Caller, window: str = "1h") -> Response:
    """Return one GPU with its past, also one that is no longer registered."""
    gpu_id, chosen = known_gpu(gpu_id), windows.window(window)
    scheduler, now = context.scheduler, time.time()
    axis = charts.TimeAxis(now - chosen.seconds, now)
    series = scheduler.samples.series(gpu_id, axis.since, axis.until)
    events = scheduler.events.latest(gpu_id, _EVENTS)
    try:
        gpu = scheduler.fleet.gpu(gpu_id)
    except NotFound:
        if not series.points:
            raise
        gpu = None
    return render(
        request,
        caller,
        "gpu.html",
        title=gpu_id,
        refresh_seconds=chosen.refresh_seconds,
        gpu_id=gpu_id,
        gpu=gpu,
        segments=segments(gpu) if gpu else [],
        window=chosen,
        windows=windows.WINDOWS,
        axis=axis,
        ticks=axis.ticks(),
        charts=history.of_gpu(series, axis, gpu.info.total_bytes if gpu else None) if series.points else [],
        events=[(event, details(event)) for event in events],
    )


def _seen(context: Context, gpus: Sequence[Gpu], now: float) -> list[Seen]:
    axis = charts.TimeAxis(now - _HOUR, now)
    past = context.scheduler.timeline.curves(_HOUR, _SPARK_POINTS)
    return [Seen(gpu, segments(gpu), _spark(gpu, past, axis)) for gpu in gpus]


def _spark(gpu: Gpu, past: Mapping[str, Curve], axis: charts.TimeAxis) -> history.Chart | None:
    """Its last hour; None where it has registered since that was read."""
    return history.spark(past[gpu.info.id], axis, gpu.info.total_bytes) if gpu.info.id in past else None


def _states(gpus: Sequence[Gpu]) -> Counter[str]:
    """How many GPUs are in each state; those that are not heard of are `offline`."""
    return Counter(gpu.state.value if gpu.online else "offline" for gpu in gpus)
