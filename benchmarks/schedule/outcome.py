"""What a policy made of a stream, as figures."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.schedule.arrivals import FLOOD, Arrival
from benchmarks.schedule.events import Ended
from benchmarks.schedule.fleet import FLEET, fastest_seconds, work_seconds

_SMALL = 0.02  # of all jobs: a user with fewer is a small one
_HOUR = 3600.0

Figures = dict[str, float | None]


def figures(jobs: Sequence[Arrival], ended: Sequence[Ended]) -> Figures:
    """Return the figures of a run; seconds, and shares of 1. None where no job was of that kind.

    `busy` is the GPUs' time with work, failed starts included, until the last end; `capacity` the work of the videos
    that were made, over what the fleet could have done in that time. A job waits until it starts for good.
    """
    videos = [one for one in ended if not one.start.fails]
    until = max(one.ended_at for one in ended)
    waits = {one.start.job.number: one.started_at - one.start.job.at for one in videos}
    small = _small_beside_flood(jobs)
    return {
        "busy": _busy_seconds(ended) / (len(FLEET) * until),
        "capacity": sum(work_seconds(one.start.job.params) for one in videos) / until,
        "videos_per_gpu_hour": len(videos) / len(FLEET) / until * _HOUR,
        "wait_mean": statistics.fmean(waits.values()),
        "wait_p95": p95(waits.values()),
        "wait_max": max(waits.values()),
        "slowdown": statistics.fmean(
            (one.ended_at - one.start.job.at) / _fastest_seconds(one.start.job) for one in videos
        ),
        "largest_wait_p95": p95(waits[job.number] for job in jobs if job.is_largest and job.number in waits),
        "small_wait_p95": p95(waits[number] for number in small if number in waits),
        "out_of_memory": len(ended) - len(videos),
        "never_ran": len(jobs) - len(videos),
    }


def bound(jobs: Sequence[Arrival]) -> Figures:
    """Return what no policy can exceed: all work at once from the first arrival on, and none of it left idle."""
    until = max(sum(work_seconds(job.params) for job in jobs), *(job.at + _fastest_seconds(job) for job in jobs))
    return {
        "capacity": sum(work_seconds(job.params) for job in jobs) / until,
        "videos_per_gpu_hour": len(jobs) / len(FLEET) / until * _HOUR,
    }


def p95(values: Iterable[float]) -> float | None:
    """Return the least value that 95 % do not exceed; None of none."""
    ordered = sorted(values)
    return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None


def medians(streams: Sequence[Figures]) -> Figures:
    """Return the median of each figure over streams, of those that have it."""
    found = {name: [one[name] for one in streams] for name in streams[0]}
    known = {name: [value for value in values if value is not None] for name, values in found.items()}
    return {name: statistics.median(values) if values else None for name, values in known.items()}


def _busy_seconds(ended: Sequence[Ended]) -> float:
    """The seconds in which a GPU has one run or more, over all GPUs."""
    total = 0.0
    for gpu in range(len(FLEET)):
        until = 0.0
        for one in sorted((one for one in ended if one.gpu == gpu), key=lambda one: one.started_at):
            total += max(0.0, one.ended_at - max(one.started_at, until))
            until = max(until, one.ended_at)
    return total


def _small_beside_flood(jobs: Sequence[Arrival]) -> list[int]:
    """The jobs of small users that come from the flood on."""
    counts = Counter(job.tenant for job in jobs)
    flood_at = next((job.at for job in jobs if job.tenant == FLOOD), math.inf)
    return [job.number for job in jobs if job.at >= flood_at and counts[job.tenant] < _SMALL * len(jobs)]


def _fastest_seconds(job: Arrival) -> float:
    return min(fastest_seconds(job.params, gpu) for gpu in FLEET)
