"""Costs: what the GPUs have cost, for whom, and what was paid for nothing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from fastapi import APIRouter, Request, Response

from app import bills
from app.access import Caller
from app.context import Context, Shared
from app.dashboard import charts, periods
from app.dashboard.charts import Bar
from app.dashboard.periods import Period
from app.dashboard.rendering import AT_ONCE_SECONDS, LONG_SECONDS, may_wait, render
from scheduler.bills import Bill
from scheduler.costs import days
from scheduler.prices import cost

_MOST_COLUMNS = 62  # days of a chart; of a longer time there are only the tables
_MOST_LABELS = 8
_REFRESH_SECONDS = 120.0

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Day:
    """What a day came to, in money or in seconds of GPUs: for attempts, for those of them that failed, and idle."""

    name: str
    work: float
    failed: float
    idle: float

    @property
    def parts(self) -> list[tuple[str, float]]:
        """The pieces of its bar, from the bottom up."""
        return [("job", self.work - self.failed), ("bad", self.failed), ("off", self.idle)]

    @property
    def total(self) -> float:
        """All of it."""
        return self.work + self.idle


@dataclass(frozen=True, slots=True)
class DayChart:
    """The days as stacked bars, and below them the labels: where in percent, and what."""

    top: float
    columns: Sequence[tuple[Day, Sequence[Bar]]]
    labels: Sequence[tuple[float, str]]


@router.get("/costs")
def get_costs(
    request: Request, context: Shared, caller: Caller, window: str = "30d", since: str = "", until: str = ""
) -> Response:
    """Return the bill of a window."""
    chosen = periods.choose(window, since, until, time.time())
    page = partial(render, request, caller, "costs.html", title="Costs", window=chosen, choices=periods.CHOICES)
    if not may_wait(request) and chosen.until is None and not context.spent.is_quick(chosen.choice, LONG_SECONDS):
        return page(refresh_seconds=AT_ONCE_SECONDS, report=None)
    bill = _bill(context, chosen)
    report = bills.report(bill)
    by_day = _by_day(context, bill)
    return page(
        refresh_seconds=_REFRESH_SECONDS,
        report=report,
        total=report.total,
        jobs=report.jobs,
        since=_utc(bill.window[0]),
        until=_utc(bill.window[1]),
        has_prices=bool(bill.prices.default or bill.prices.gpus),
        unpriced=[gpu.gpu_id for gpu in bill.gpus if gpu.price is None],
        chart=chart(by_day),
        stages=_stage_bars([stage.share for stage in report.stages]),
    )


def _bill(context: Context, chosen: Period) -> Bill:
    """The bill of a period; of one until now a recent one."""

    def read() -> Bill:
        return context.scheduler.spending.bill(context.settings.prices, chosen.since, chosen.until)

    return read() if chosen.until is not None else context.spent.get(chosen.choice, read)


def chart(by_day: Sequence[Day]) -> DayChart | None:
    """Return the chart of some days; None where there is nothing to draw, or there are too many for one."""
    largest = max((day.total for day in by_day), default=0.0)
    if not largest or len(by_day) > _MOST_COLUMNS:
        return None
    top = charts.top_of([largest], least=1e-6)
    step = -(-len(by_day) // _MOST_LABELS)
    labels = [
        (round((number + 0.5) / len(by_day) * 100, 3), f"{datetime.fromisoformat(day.name):%d %b}")
        for number, day in enumerate(by_day)
        if number % step == 0
    ]
    return DayChart(top, list(zip(by_day, charts.stacked([day.parts for day in by_day], top), strict=True)), labels)


def _by_day(context: Context, bill: Bill) -> list[Day]:
    """The days of a bill, in money where all of it is priced. Idle is what a day's online time leaves of its attempts.

    A day is as exact as its samples: what attempts ran beyond these is not idle time less.
    """
    since, until = bill.window
    parts = days(bill.window) if since < until else []
    if len(parts) > _MOST_COLUMNS:
        return []
    lines = {line.name: line for line in bill.days}
    prices = {gpu.gpu_id: gpu.price for gpu in bill.gpus}
    found = []
    for start, end in parts:
        name = datetime.fromtimestamp(start, UTC).date().isoformat()
        line, online = lines.get(name), context.scheduler.samples.totals(start, end)
        work, failed, there = 0.0, 0.0, 0.0
        if bill.cost is None:
            there = sum(seen.seconds for seen in online.values())
            work, failed = (line.gpu_seconds, line.failed_gpu_seconds) if line else (0.0, 0.0)
        else:
            there = sum(cost(prices.get(gpu_id), seen.seconds) or 0.0 for gpu_id, seen in online.items())
            work, failed = (line.cost or 0.0, line.failed_cost or 0.0) if line else (0.0, 0.0)
        found.append(Day(name, work, failed, max(0.0, there - work)))
    return found


def _stage_bars(shares: Sequence[float]) -> list[tuple[float, float]]:
    """Where the piece of each stage begins, and how wide it is, in percent."""
    begins, made = 0.0, []
    for share in shares:
        made.append((round(begins, 3), round(100 * share, 3)))
        begins += 100 * share
    return made


def _utc(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%d %b %Y %H:%M} UTC"
