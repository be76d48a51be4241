"""When a waiting job should start and end, and how far off that may be. Pure, no I/O. Seconds are from now.

**The start.** Worker `i` is free after `r_i` seconds. The jobs ahead are handed out in their order, each to the worker
that is free first: the first of them one by one, as claims would (the recursion of Kiefer and Wolfowitz, "On the theory
of queues with many servers", 1955); what comes after those as a fluid that fills all workers to one level: the start is
the `t` with `sum(max(0, t - r_i)) = work`. The fluid is late by less than a job's time.

**How far off.** A job takes `x` times its predicted seconds, and `x` is distributed as in the last attempts (`Pace`). A
part of its variance all jobs share (the predictions for this model are off, the machine is slow today); the rest is
each job's own. Let `d` be the distance of the median of `x` from its 90th percentile, in multiples of the mean. Errors
that jobs share add up, independent ones add in quadrature. The worker that is free first, after `r`, is off by `d * r`;
`k` workers then run `k * t / l` jobs of at most `l` seconds, and share their errors: `d * sqrt(k * t / l) * l / k`. So

    p90 = t + d * sqrt(shared * t**2 + (1 - shared) * min(t**2, r**2 + t * l / k))

**The end** is the start and the job's own run. Where they are off by `a` and `b`, both are by
`sqrt(a**2 + b**2 + 2 * sqrt(shared) * a * b)`, for their correlation is the share that is common.

What nobody knows yet counts as not happening: jobs that will come and go first, attempts that will fail.
"""

import heapq
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_RATIOS = 20
_BLOCK = 10  # attempts that ran about the same time


@dataclass(frozen=True, slots=True)
class Pace:
    """How attempts compare with their predictions: measured over predicted seconds.

    A sum of jobs goes by the `mean`, a single one by the `median` and `p90`; `shared` in [0, 1] is the part of the
    variance that is the same for all jobs.
    """

    mean: float
    median: float
    p90: float
    shared: float

    @property
    def spread(self) -> float:
        """From the median of one run to its 90th percentile, in multiples of the mean."""
        return max(0.0, self.p90 - self.median) / self.mean


# Before there is anything to learn from: predictions from data sheets are right to a factor of two, all in one way.
PRIOR = Pace(mean=1.0, median=1.0, p90=2.0, shared=0.75)


@dataclass(frozen=True, slots=True)
class Span:
    """A time that is as likely earlier as later than `p50`, and in 9 of 10 cases not later than `p90`."""

    p50: float
    p90: float

    def shifted(self, seconds: float) -> "Span":
        """Return the same span, so much later."""
        return Span(self.p50 + seconds, self.p90 + seconds)


@dataclass(frozen=True, slots=True)
class Work:
    """What is ahead of a job, in predicted seconds: the first jobs in order, the rest together, the longest of all."""

    first: Sequence[float] = ()
    rest_seconds: float = 0.0
    longest_seconds: float = 0.0

    def and_then(self, other: "Work") -> "Work":
        """Return this work and another."""
        return Work(
            (*self.first, *other.first),
            self.rest_seconds + other.rest_seconds,
            max(self.longest_seconds, other.longest_seconds),
        )


def learn(ratios: Sequence[float]) -> Pace:
    """Return the pace of the last attempts, `ratios` in order of time; `PRIOR` for fewer than `LEAST_RATIOS`.

    The shared variance is that between blocks of attempts which ran one after another, less what blocks of independent
    attempts would show (analysis of variance, one-way random effects), and at least that of the mean's own error.
    """
    if len(ratios) < LEAST_RATIOS:
        return PRIOR
    variance = statistics.variance(ratios)
    blocks = [ratios[start : start + _BLOCK] for start in range(0, len(ratios) - _BLOCK + 1, _BLOCK)]
    within = statistics.fmean(statistics.variance(block) for block in blocks)
    between = statistics.variance(statistics.fmean(block) for block in blocks)
    shared = max(between - within / _BLOCK, variance / len(ratios))
    return Pace(
        mean=statistics.fmean(ratios),
        median=statistics.median(ratios),
        p90=statistics.quantiles(ratios, n=10, method="inclusive")[-1],
        shared=min(1.0, shared / variance) if variance > 0 else 1.0,
    )


def start(free_after: Sequence[float], ahead: Work, pace: Pace) -> Span:
    """Return when a job starts that waits for the work `ahead` on workers which are free after so many seconds.

    There must be a worker. More work never makes it earlier, one more worker never later.
    """
    lanes = list(free_after)
    heapq.heapify(lanes)
    first = lanes[0]
    for seconds in ahead.first:
        heapq.heapreplace(lanes, lanes[0] + seconds * pace.mean)
    at = _level(lanes, ahead.rest_seconds * pace.mean)
    own = min(at**2, first**2 + at * ahead.longest_seconds * pace.mean / len(lanes))
    return Span(at, at + pace.spread * math.sqrt(pace.shared * at**2 + (1 - pace.shared) * own))


def finish(begin: Span, seconds: float, pace: Pace) -> Span:
    """Return when a job ends that starts at `begin` and is predicted to take `seconds`."""
    p50 = begin.p50 + seconds * pace.median
    waits, runs = begin.p90 - begin.p50, seconds * (pace.p90 - pace.median)
    both = waits**2 + runs**2 + 2 * math.sqrt(pace.shared) * waits * runs
    return Span(p50, p50 + math.sqrt(both))


def _level(free_after: Sequence[float], work_seconds: float) -> float:
    """The time by which `work_seconds` are done, divided at will between workers that are free after so long."""
    lanes = sorted(free_after)
    filled, count = lanes[0], 1
    while count < len(lanes) and lanes[count] * count < work_seconds + filled:
        filled, count = filled + lanes[count], count + 1
    return max(lanes[0], (work_seconds + filled) / count)
