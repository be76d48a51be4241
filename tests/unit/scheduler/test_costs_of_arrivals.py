"""Costs of recorded arrivals, held to a reckoning second by second.

`arrivals.csv` is derived from the Alibaba Cluster Trace Program (cluster-trace-v2026-GenAI): the times, seconds, users,
models and ends of 150 requests in a row. All of them are whole seconds, so that counting seconds is exact.
"""

import csv
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path

import pytest

from scheduler.accounting import Presence, Run, bill
from scheduler.prices import Price, Prices

START = 1_800_000_000
PRICES = Prices(gpus={"GPU-0": Price(1.5), "GPU-1": Price(0.25)})


def recorded() -> list[Run]:
    """Every request as an attempt that starts when it came, on the GPU of its user."""
    with (Path(__file__).parent / "arrivals.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        Run(f"GPU-{int(row['user'][1:]) % 2}", "kind", row["user"], row["model"], start, end, row["outcome"])
        for row in rows
        for start in [float(START + int(row["at"]))]
        for end in [start + int(row["seconds"])]
    ]


def test_costs_are_those_of_each_second_divided_among_the_jobs_that_ran_in_it() -> None:
    runs = recorded()
    running: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in runs:
        assert run.ended_at is not None
        for second in range(int(run.started_at), int(run.ended_at)):
            running[run.gpu_id, second].append(run)
    by_tenant: dict[str, Fraction] = defaultdict(Fraction)
    busy = Counter(gpu_id for gpu_id, _ in running)
    for (gpu_id, _), sharing in running.items():
        price = PRICES.of(gpu_id)
        assert price is not None
        for run in sharing:
            by_tenant[run.tenant] += Fraction(price.hour) / 3600 / len(sharing)
    assert max(map(len, running.values())) > 2, "jobs shared a GPU"

    end = max(run.ended_at or 0.0 for run in runs)
    window = (float(START), end)
    found = bill(runs, {name: Presence(online_seconds=end - START) for name in busy}, PRICES, window)
    assert {gpu.gpu_id: gpu.busy_seconds for gpu in found.gpus} == busy
    for line in found.tenants:
        assert line.cost == pytest.approx(float(by_tenant[line.name]), abs=1e-9), line.name
    assert found.cost == pytest.approx((end - START) / 3600 * (1.5 + 0.25))
    assert found.jobs.cost == pytest.approx(float(sum(by_tenant.values())))
    assert 0 < found.jobs.failed_cost < found.jobs.cost  # type: ignore[operator]  # all GPUs have a price
