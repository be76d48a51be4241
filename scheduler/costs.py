"""Whose a GPU's time is: at each moment it is divided equally among the attempts that run on it.

So an attempt that runs alone has all of it, one of two has half, and what the attempts have adds up to the time in
which any of them ran. The rest of the time that the GPU was there is idle.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

DAY_SECONDS = 86_400


Interval = tuple[float, float]  # when an attempt began to run and ceased to: seconds since 1970, in this order


@dataclass(frozen=True, slots=True)
class Division:
    """How the time of a GPU was divided. In `busy_seconds` of it any attempt ran.

    `shares` is a clock: at each time that the division was made with, the seconds that an attempt would have got until
    then which ran all the time.
    """

    busy_seconds: float
    shares: Mapping[float, float]

    def share(self, start: float, end: float) -> float:
        """Return the seconds of the GPU that belong to an attempt which ran in this time."""
        return self.shares[end] - self.shares[start]


def divide(intervals: Iterable[Interval], cuts: Iterable[float] = ()) -> Division:
    """Divide a GPU's time among the attempts that ran on it, in O(n log n); their order does not matter.

    `cuts` are further times that the division can be asked about.
    """
    change: dict[float, int] = dict.fromkeys(cuts, 0)
    for start, end in intervals:
        change[start] = change.get(start, 0) + 1
        change[end] = change.get(end, 0) - 1
    shares: dict[float, float] = {}
    share = busy = before = 0.0
    running = 0
    for at in sorted(change):
        if running:
            share += (at - before) / running
            busy += at - before
        shares[at] = share
        running += change[at]
        before = at
    return Division(busy, shares)


def days(of: Interval) -> Sequence[Interval]:
    """Cut a time at midnight, UTC: a part for each day, in order. A moment is one part."""
    start, end = of
    midnight = day_of(start) * DAY_SECONDS + DAY_SECONDS
    if end <= midnight:
        return (of,)
    midnights = (float(at) for at in range(midnight, math.ceil(end), DAY_SECONDS))
    return list(pairwise((start, *midnights, end)))


def day_of(at: float) -> int:
    """Return the day of a time, counted from 1970."""
    return int(at // DAY_SECONDS)
