"""Advice as the API takes and shows it."""

import math
from dataclasses import asdict

from app import schemas as api
from app.views import time_text
from scheduler.advice import Advice, GpuUse, Growth, Payback
from scheduler.errors import InvalidParameter
from scheduler.evidence import Recorded
from scheduler.remedies import Remedy
from scheduler.replay import Replayed, Trial

_MOST = 1000.0  # times as much each month: more is a slip


def parse_growth(text: str) -> Growth:
    """Return a growth that the caller expects: `high`, `low`, or a share a month; raises `InvalidParameter`."""
    if text in ("high", "low"):
        return Growth(text == "high", given=True)
    try:
        monthly = float(text)
    except ValueError:
        monthly = math.nan
    if not -1.0 <= monthly <= _MOST:  # also refuses NaN
        raise InvalidParameter("growth", f"must be high, low or a share a month such as 0.2, not {text[:40]!r}")
    return Growth.expected(monthly)


def report(advice: Advice, recorded: Recorded) -> api.AdviceReport:
    """Return advice, and the record that it rests on, as the API shows them."""
    evidence = advice.evidence
    heaviest, growth, payback = evidence.heaviest, evidence.growth, evidence.payback
    since, until = recorded.window
    return api.AdviceReport(
        since=time_text(since),
        until=time_text(until),
        advice=advice.sentence,
        verdict=advice.verdict,
        matrix=advice.matrix,
        sureness=advice.sureness,
        sureness_reason=advice.sureness_reason,
        load=heaviest.load if heaviest else None,
        growth=api.AdviceGrowth(
            high=growth.high,
            monthly=growth.monthly,
            source="given" if growth.given else "measured",
            days=growth.days,
        ),
        attempts=evidence.attempts,
        steps=[
            api.AdviceStep(question=one.question, answer=one.answer, value=one.value, limit=one.limit)
            for one in advice.steps
        ],
        signals=[api.AdviceSignal(name=one.name, active=one.active, reason=one.reason) for one in advice.signals],
        gpus=[_gpu(gpu) for gpu in evidence.gpus],
        refused=[api.AdviceRefusal(**asdict(one)) for one in evidence.refused],
        payback=None
        if payback is None
        else api.AdvicePayback(card_price=payback.card_price, saved_month=payback.saved_month, months=payback.months),
        remedies=[_remedy(one) for one in evidence.remedies],
        comparison=_comparison(recorded),
    )


def _comparison(recorded: Recorded) -> api.AdviceComparison | None:
    found = recorded.comparison
    if found is None:
        return None
    return api.AdviceComparison(
        arrivals=found.arrivals,
        as_is=_fleet(found.as_is),
        cards=[_card(trial, recorded.saved_month) for trial in found.trials],
    )


def _card(trial: Trial, saved_month: float | None) -> api.AdviceCard:
    card = trial.card
    return api.AdviceCard(
        name=card.name,
        memory_bytes=card.memory_bytes,
        relative_speed=trial.speed,
        price=card.price,
        hour=card.hour,
        payback_months=None if card.price is None else Payback(card.price, saved_month).months,
        fleet=_fleet(trial.with_card),
    )


def _fleet(replayed: Replayed) -> api.AdviceFleet:
    return api.AdviceFleet(
        videos=replayed.videos,
        impossible=replayed.impossible,
        wait_seconds_mean=replayed.wait_seconds_mean,
        wait_seconds_p95=replayed.wait_seconds_p95,
        videos_per_hour=replayed.videos_per_hour,
        cost_per_video=replayed.cost_per_video,
    )


def _gpu(gpu: GpuUse) -> api.AdviceGpu:
    return api.AdviceGpu(
        gpu=gpu.gpu_id,
        name=gpu.name,
        load=gpu.load,
        memory_share=gpu.memory_share,
        peak_bytes=None if gpu.peak_bytes is None else int(gpu.peak_bytes),
        total_bytes=gpu.total_bytes,
        utilization_percent=gpu.utilization_percent,
        working_percent=gpu.working_percent,
        hot_share=gpu.hot_share,
        busy_share=gpu.busy_share,
        online_seconds=gpu.seconds,
        diagnosis=gpu.diagnosis,
    )


def _remedy(remedy: Remedy) -> api.AdviceRemedy:
    return api.AdviceRemedy(
        name=remedy.name,
        share=remedy.share,
        peak_bytes=remedy.peak_bytes,
        new_peak_bytes=remedy.new_peak_bytes,
        memory_gain=remedy.memory_gain,
        seconds=remedy.seconds,
        new_seconds=remedy.new_seconds,
        time_gain=remedy.time_gain,
    )
