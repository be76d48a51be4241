"""Advice: whether to buy hardware, change software, or leave everything as it is, and what that rests on."""

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from app import schemas as api
from app.access import Caller
from app.advice import parse_growth, report
from app.cards import read_cards
from app.context import Context, Shared
from app.dashboard import matrix
from app.dashboard.rendering import AT_ONCE_SECONDS, LONG_SECONDS, may_wait, render
from scheduler import advice as rules
from scheduler.advice import Diagnosis, Growth, Payback, Sureness, Verdict
from scheduler.errors import InvalidParameter
from scheduler.evidence import Recorded

_DAY = 86_400.0
_WINDOWS = {"1d": "Last day", "7d": "Last 7 days", "30d": "Last 30 days", "90d": "Last 90 days"}
_USUAL = "7d"
_GROWTHS = {
    "measured": "as measured",
    "low": "low",
    "high": "high",
    "0.1": "+10% a month",
    "0.2": "+20% a month",
    "0.5": "+50% a month",
    "1": "+100% a month",
}
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


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form asked: `growth` is None for the measured trend, `problem` what of it could not be understood."""

    window: str
    growth_text: str
    price_text: str
    growth: Growth | None
    card_price: float | None
    problem: str | None = None

    @property
    def seconds(self) -> float:
        """How long the window is."""
        return int(self.window.removesuffix("d")) * _DAY


@router.get("/advice")
def get_advice(
    request: Request,
    context: Shared,
    caller: Caller,
    window: str = _USUAL,
    growth: str = "measured",
    card_price: str = "",
) -> Response:
    """Return the advice for a window, a growth to expect, and the price of a card."""
    asked = _asked(window, growth, card_price)
    page = partial(
        render,
        request,
        caller,
        "advice.html",
        title="Advice",
        asked=asked,
        windows=_WINDOWS,
        growths=_GROWTHS if asked.growth_text in _GROWTHS else {asked.growth_text: asked.growth_text} | _GROWTHS,
    )
    if not may_wait(request) and not context.advised.is_quick(asked.window, LONG_SECONDS):
        return page(refresh_seconds=AT_ONCE_SECONDS, found=None)
    recorded = _recorded(context, asked)
    found = report(rules.advise(recorded.evidence), recorded)
    return page(
        refresh_seconds=_REFRESH_SECONDS,
        since=recorded.window[0],
        until=recorded.window[1],
        found=found,
        tone=_TONES[found.verdict],
        lacking=lacking(found),
        diagnoses=_DIAGNOSES,
        signals=_SIGNALS,
        high_load=rules.HIGH_LOAD,
        gpus=sorted(found.gpus, key=lambda gpu: -(gpu.load or 0.0)),
        **_matrix(found),
    )


def lacking(found: api.AdviceReport) -> list[str]:
    """Return what would have to be recorded for the advice to be surer; nothing where it is sure."""
    if found.sureness is Sureness.HIGH:
        return []
    watched = max((gpu.online_seconds for gpu in found.gpus), default=0.0) / _DAY
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


def _asked(window: str, growth: str, card_price: str) -> Asked:
    problem, expected, price = None, None, None
    if window not in _WINDOWS:
        window, problem = _USUAL, f"There is no window {window[:40]!r}. Shown: {_WINDOWS[_USUAL]}."
    try:
        expected = None if growth in ("", "measured") else parse_growth(growth)
    except InvalidParameter as error:
        growth, problem = "measured", f"{error}. Shown: the measured trend."
    if card_price:
        price = _price(card_price)
        if price is None:
            card_price, problem = "", f"The price of a card must be a number from 0 on, not {card_price[:40]!r}."
    return Asked(window, growth, card_price, expected, price, problem)


def _price(text: str) -> float | None:
    try:
        price = float(text)
    except ValueError:
        return None
    return price if 0 <= price < math.inf else None


def _recorded(context: Context, asked: Asked) -> Recorded:
    """What was recorded recently of the window, with what the reader expects in the place of what was measured."""

    def read() -> Recorded:
        settings = context.settings
        since = time.time() - asked.seconds
        return context.scheduler.evidence.read(settings.prices, since=since, cards=read_cards(settings.cards))

    recorded = context.advised.get(asked.window, read)
    evidence = recorded.evidence
    if asked.growth is not None:
        evidence = replace(evidence, growth=asked.growth)
    if asked.card_price is not None:
        evidence = replace(evidence, payback=Payback(asked.card_price, recorded.saved_month))
    return replace(recorded, evidence=evidence)


def _matrix(found: api.AdviceReport) -> dict[str, Any]:
    growth = found.growth
    loads = [(gpu.gpu, gpu.load, matrix.x_of(gpu.load)) for gpu in found.gpus if gpu.load is not None]
    return {
        "quadrants": matrix.QUADRANTS,
        "loads": sorted(loads, key=lambda one: one[2]),
        "y": matrix.y_of(growth.monthly, high=growth.high),
    }
