"""A timeline as the API shows it."""

from collections.abc import Mapping, Sequence

from app import schemas as api
from app.views import time_text
from scheduler.bars import Bar, Key
from scheduler.timeline import Curve, Ran, Row, Timeline


def view(timeline: Timeline) -> api.Timeline:
    """Return a timeline as the API shows it."""
    since, until = timeline.window
    return api.Timeline(
        since=time_text(since),
        until=time_text(until),
        resolution_seconds=timeline.resolution_seconds,
        gpus=[_gpu(row, timeline.attempts) for row in timeline.gpus],
    )


def _gpu(row: Row, attempts: Mapping[Key, Ran]) -> api.TimelineGpu:
    return api.TimelineGpu(
        gpu=row.gpu_id,
        host=row.host,
        name=row.name,
        total_bytes=row.total_bytes,
        bars=[_bar(bar, None if bar.key is None else attempts.get(bar.key)) for bar in row.bars],
        curve=_curve(row.curve) if row.curve.used_bytes else None,
    )


def _bar(bar: Bar, ran: Ran | None) -> api.TimelineBar:
    return api.TimelineBar(
        lane=bar.lane,
        began_at=time_text(bar.began_at),
        ended_at=None if bar.ended_at is None else time_text(bar.ended_at),
        outcome=bar.outcome,
        outcomes=bar.outcomes,
        attempts=bar.attempts,
        attempt=None if ran is None else _attempt(ran),
    )


def _attempt(ran: Ran) -> api.TimelineAttempt:
    return api.TimelineAttempt(
        job=ran.job_id,
        lease=ran.lease,
        number=ran.number,
        tenant=ran.tenant,
        model=ran.model,
        plan=ran.plan,
        shape=ran.shape,
        predicted_seconds=ran.predicted_seconds,
        predicted_vram_bytes=ran.predicted_vram_bytes,
        vram_peak_bytes=ran.vram_peak_bytes,
        error_code=ran.error_code,
    )


def _curve(curve: Curve) -> api.TimelineCurve:
    return api.TimelineCurve(
        since=time_text(curve.first),
        step_seconds=curve.step_seconds,
        used_bytes=_whole(curve.used_bytes),
        reserved_bytes=_whole(curve.reserved_bytes),
        foreign_bytes=_whole(curve.foreign_bytes),
        utilization_percent=list(curve.utilization_percent),
    )


def _whole(values: Sequence[float | None]) -> list[int | None]:
    return [None if value is None else round(value) for value in values]
