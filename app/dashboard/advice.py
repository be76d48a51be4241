"""Advice: whether to buy hardware, change software, or leave everything as it is, and what that rests on."""

import time
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from app import schemas as api
from app.access import Caller
from app.advice import report
from app.cards import read_cards
from app.context import Context, Shared
from app.dashboard import asking, matrix
from app.dashboard.asking import Asked
from app.dashboard.rendering import AT_ONCE_SECONDS, LONG_SECONDS, may_wait, render
from scheduler import advice as rules
from scheduler.advice import Diagnosis, Sureness, Verdict
from scheduler.evidence import Recorded

_DAY = 86_400.0
_REFRESH_SECONDS = 300.0
_DIAGNOSES = {
    Diagnosis.IDLE: ("off", "Idle"),
    Diagnosis.MEMORY: ("warn", "Bound by memory"),
    Diagnosis.COMPUTE: ("warn", "Bound by computing"),
    Diagnosis.STARVED: ("bad", "Waits for data"),
    Diagnosis.BALANCED: ("good", "Balanced"),
    Diagnosis.UNKNOWN: ("off", "Not known"),
}
_TONES = {
    Verdict.KEEP: "good",
    Verdict.OPTIMISE: "warn",
    Verdict.WATCH: "",
    Verdict.ADVANCE: "bad",
    Verdict.UNKNOWN: "",
}
_SIGNALS = {
    "demand": "Demand above what the hardware can hold",
    "plans_exhausted": "Plans are exhausted",
    "payback": "A card pays for itself",
    "utilization": "Busy above 80% for more than 30% of the time",
}

router = APIRouter(include_in_schema=False)


@router.get("/advice")
def get_advice(
    request: Request,
    context: Shared,
    caller: Caller,
    window: str = asking.USUAL,
    growth: str = asking.MEASURED,
    card_price: str = "",
) -> Response:
    """Return the advice for a window, a growth to expect, and the price of a card."""
    asked = asking.read(window, growth, card_price)
    page = partial(render, request, caller, "advice.html", title="Advice", asked=asked, windows=asking.WINDOWS)
    if not may_wait(request) and not context.advised.is_quick(asked.window, LONG_SECONDS):
        return page(refresh_seconds=AT_ONCE_SECONDS, found=None)
    return page(refresh_seconds=_REFRESH_SECONDS, **_values(asked.apply(_recorded(context, asked))))


def lacking(found: api.AdviceReport) -> list[str]:
    """Return what would have to be recorded for the advice to be surer; nothing where it is sure."""
    if found.sureness is Sureness.HIGH:
        return []
    watched = max((gpu.online_seconds for gpu in found.gpus), default=0.0) / 86_400
    days, attempts = rules.SURE
    wanted = []
    if not found.gpus:
        wanted.append("No GPU has been sampled in this time: a worker must have been running.")
    elif watched < days:
        wanted.append(f"GPUs have been watched for {watched:.1f} days; from {days:g} on it is sure.")
    if found.attempts < attempts:
        wanted.append(f"{found.attempts} attempts have ended; from {attempts} on it is sure.")
    if found.growth.high is None:
        wanted.append(
            f"A trend takes at least {rules.LEAST_TREND_DAYS} whole days with work: until then, "
            "say above what growth you expect."
        )
    return wanted


def _recorded(context: Context, asked: Asked) -> Recorded:
    """What was recorded recently of the window."""

    def read() -> Recorded:
        settings = context.settings
        since = time.time() - asked.seconds
        return context.scheduler.evidence.read(settings.prices, since=since, cards=read_cards(settings.cards))

    return context.advised.get(asked.window, read)


def _values(recorded: Recorded) -> dict[str, Any]:
    found = report(rules.advise(recorded.evidence), recorded)
    return {
        "since": recorded.window[0],
        "until": recorded.window[1],
        "found": found,
        "tone": _TONES[found.verdict],
        "lacking": lacking(found),
        "diagnoses": _DIAGNOSES,
        "signals": _SIGNALS,
        "high_load": rules.HIGH_LOAD,
        "gpus": sorted(found.gpus, key=lambda gpu: -(gpu.load or 0.0)),
        **_matrix(found),
    }


def _matrix(found: api.AdviceReport) -> dict[str, Any]:
    growth = found.growth
    loads = [(gpu.gpu, gpu.load, matrix.x_of(gpu.load)) for gpu in found.gpus if gpu.load is not None]
    return {
        "quadrants": matrix.QUADRANTS,
        "loads": sorted(loads, key=lambda one: one[2]),
        "y": matrix.y_of(growth.monthly, high=growth.high),
    }
