"""A bill as the API shows it."""

from collections.abc import Sequence

from app import schemas as api
from app.views import time_text
from scheduler.bills import Bill, GpuLine, Line
from scheduler.prices import Price, Prices, kwh

_ORDER = ("loading", "encoding", "denoising", "decoding", "muxing", "waiting")
IDLE = "idle"


def report(bill: Bill) -> api.CostReport:
    """Return a bill as the API shows it."""
    prices = bill.prices
    since, until = bill.window

    def lines(found: Sequence[Line]) -> list[api.CostLine]:
        return [_line(one, prices) for one in found]

    return api.CostReport(
        since=time_text(since),
        until=time_text(until),
        prices=api.CostPrices(
            default=_price(prices.default),
            gpus={name: _known_price(price) for name, price in prices.gpus.items()},
            energy_kwh=prices.energy_kwh,
        ),
        total=_total(bill),
        jobs=_line(bill.jobs, prices),
        gpus=[_gpu(gpu, prices) for gpu in bill.gpus],
        tenants=lines(bill.tenants),
        models=lines(bill.models),
        days=lines(bill.days),
        outcomes=lines(bill.outcomes),
        stages=_stages(bill),
    )


def _total(bill: Bill) -> api.CostTotal:
    energy = bill.energy_joules
    return api.CostTotal(
        online_seconds=bill.online_seconds,
        busy_seconds=bill.busy_seconds,
        idle_seconds=bill.idle_seconds,
        cost=bill.cost,
        idle_cost=bill.idle_cost,
        cost_per_video=None if bill.cost is None or not bill.jobs.videos else bill.cost / bill.jobs.videos,
        projected_month=bill.month_cost,
        energy_joules=energy,
        energy_kwh=None if energy is None else kwh(energy),
        energy_cost=bill.prices.energy(energy),
    )


def _line(line: Line, prices: Prices) -> api.CostLine:
    return api.CostLine(
        name=line.name,
        attempts=line.attempts,
        videos=line.videos,
        run_seconds=line.run_seconds,
        gpu_seconds=line.gpu_seconds,
        cost=line.cost,
        cost_per_video=line.cost_per_video,
        failed_gpu_seconds=line.failed_gpu_seconds,
        failed_cost=line.failed_cost,
        energy_joules=line.energy_joules,
        energy_cost=prices.energy(line.energy_joules),
    )


def _gpu(gpu: GpuLine, prices: Prices) -> api.GpuCost:
    return api.GpuCost(
        gpu=gpu.gpu_id,
        name=gpu.name,
        kind=gpu.kind,
        price=_price(gpu.price),
        online_seconds=gpu.online_seconds,
        busy_seconds=gpu.busy_seconds,
        idle_seconds=gpu.idle_seconds,
        cost=gpu.cost,
        busy_cost=gpu.busy_cost,
        idle_cost=gpu.idle_cost,
        energy_joules=gpu.energy_joules,
        energy_cost=prices.energy(gpu.energy_joules),
    )


def _stages(bill: Bill) -> list[api.CostStage]:
    """The stages in the order in which an attempt goes through them, what is of none, and idle time."""
    rest = sorted(stage for stage in bill.stages if stage not in _ORDER)
    seconds = {stage: bill.stages.get(stage, 0.0) for stage in (*_ORDER, *rest)} | {IDLE: bill.idle_seconds}
    whole = bill.online_seconds
    return [
        api.CostStage(stage=stage, gpu_seconds=one, share=one / whole if whole else 0.0)
        for stage, one in seconds.items()
    ]


def _price(price: Price | None) -> api.GpuPrice | None:
    return None if price is None else _known_price(price)


def _known_price(price: Price) -> api.GpuPrice:
    return api.GpuPrice(hour=price.hour, terms=price.terms)
