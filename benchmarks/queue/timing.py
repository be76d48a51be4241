"""Percentiles and medians of measured times. Standard library only: the peers' environments use it too."""

import math
from collections.abc import Iterable, Sequence
from statistics import median


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the smallest value that `percent` % of `values` do not exceed; there must be one."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds, and how many samples they come from."""
    return {
        "p50_ms": round(percentile(seconds, 50) * 1000, 3),
        "p99_ms": round(percentile(seconds, 99) * 1000, 3),
        "samples": len(seconds),
    }


def median_of(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each number over `runs`, which all hold the same ones."""
    return {name: round(median(run[name] for run in runs), 3) for name in runs[0]}


def rate_together(ran_at: Sequence[Sequence[float]]) -> float:
    """Return jobs/s while all workers were at work; `ran_at` has each worker's times of running a job, ascending."""
    first = max(times[0] for times in ran_at)
    last = min(times[-1] for times in ran_at)
    done = sum(1 for times in ran_at for at in times if first < at <= last)
    return round(done / (last - first), 1)
