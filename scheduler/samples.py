"""Samples: what was seen of each GPU, at falling resolution, for charts, costs and advice.

Each sample goes at once into the bucket of each step that it falls into, so that nothing is rolled up later and every
step has everything. A sample stands for the time since the GPU was heard of before.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from scheduler.records import GpuSample
from scheduler.store import samples as rows
from scheduler.store.database import Database
from scheduler.store.samples import Part, Standing
from scheduler.store.schema import GAUGES

_HOUR, _DAY = 3600, 86_400
# How long the buckets of each step (seconds) are kept, at least; each step is a multiple of the one before.
KEPT_SECONDS: Mapping[int, int] = {5: _HOUR, 60: 7 * _DAY, _HOUR: 365 * _DAY}
HOT_PERCENT = 80.0  # a GPU with a utilisation above this is near its limit
_FINEST, _COARSEST = min(KEPT_SECONDS), max(KEPT_SECONDS)


@dataclass(frozen=True, slots=True)
class Level:
    """A gauge over some time: the mean of the samples in which it was known, and their maximum."""

    mean: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the samples of a GPU add up to over some time.

    They stand for `seconds`, in `busy_seconds` of which the GPU had an open lease. `problems` are samples without a
    reading of the memory. `hot_share` is how many had a utilisation above `HOT_PERCENT`, of those with any, in [0, 1].
    Bytes, percent, watts and degrees Celsius; None where nothing was measured.
    """

    samples: int
    problems: int
    seconds: float
    busy_seconds: float
    hot_share: float | None
    used_bytes: Level | None
    foreign_bytes: Level | None
    reserved_bytes: Level | None
    utilization_percent: Level | None
    power_watts: Level | None
    temperature_celsius: Level | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(Totals):
    """A point of a chart: `at` is when its time begins, in seconds since 1970 by the database's clock."""

    at: int


@dataclass(frozen=True, slots=True)
class Series:
    """The points of a chart, `step_seconds` apart; there is none where nothing was sampled."""

    step_seconds: int
    points: Sequence[Point]


class Samples:
    """The samples of all GPUs, of forgotten ones too. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def series(self, gpu_id: str, since: float | None = None, until: float | None = None, most: int = 600) -> Series:
        """Return what was seen of a GPU in [since, until), in at most `most` points: as fine as is kept all that time.

        Times are seconds since 1970 by the database's clock; by default it is the last hour, or the one before `until`.
        A point belongs to the time that it begins in.
        """
        with self._database.read() as conn:
            now = self._database.now(conn)
            until = now if until is None else until
            since = until - _HOUR if since is None else since
            part, width = fitting(since, until, now, most=most)
            found = rows.series(conn, gpu_id, part, width)
        return Series(width, [Point(at=row.start, **_measured(row)) for row in found])

    def totals(self, since: float, until: float) -> Mapping[str, Totals]:
        """Return by GPU what was seen of it in [since, until); a GPU without a sample in it is left out.

        Each end is moved on to where a bucket of the finest step begins that is kept for it: so the totals of two
        times next to each other are those of both together.
        """
        with self._database.read() as conn:
            now = self._database.now(conn)
            first, last = (_ceil(end, _finest_kept(end, now)) for end in (since, until))
            found = rows.totals(conn, list(_parts(first, last)))
        return {row.gpu_id: Totals(**_measured(row)) for row in found}


def fitting(since: float, until: float, now: float, *, most: int, most_buckets: float = math.inf) -> tuple[Part, int]:
    """Return which buckets to read for a chart of [since, until), and how many seconds a point of it is of.

    There are at most `most` points, as fine as is kept all that time and as `most_buckets` of a GPU allow.
    """
    seconds = max(0.0, until - since)
    few = next((step for step in KEPT_SECONDS if seconds <= step * most_buckets), _COARSEST)
    step, width = _resolution(seconds / most, max(few, _finest_kept(since, now)))
    return Part(step, _ceil(since, width), _ceil(until, width)), width


def record(
    conn: Connection, gpu_id: str, look: GpuSample, before: Standing, now: float, patience_seconds: float
) -> None:
    """Put a sample into its buckets. `before` is how the GPU stood until now.

    It stands for the time since then, or for `patience_seconds` of it: after that the GPU counted as gone.
    """
    seconds = min(max(0.0, now - before.seen_at), patience_seconds)
    utilization = look.utilization_percent
    measured = {
        "used_bytes": look.used_bytes,
        "foreign_bytes": look.foreign_bytes,
        "reserved_bytes": before.resident_bytes + before.leased_bytes,
        "utilization_percent": utilization,
        "power_watts": look.power_watts,
        "temperature_celsius": look.temperature_celsius,
    }
    sample: dict[str, Any] = {
        "gpu_id": gpu_id,
        "samples": 1,
        "hot_samples": int(utilization is not None and utilization > HOT_PERCENT),
        "seconds": seconds,
        "busy_seconds": seconds if before.leased_bytes else 0.0,
    }
    for name, value in measured.items():
        sample |= {f"{name}_sum": value or 0.0, f"{name}_count": int(value is not None), f"{name}_max": value}
    rows.add(conn, [{**sample, "step_seconds": step, "at": int(now // step * step)} for step in KEPT_SECONDS])


def prune(conn: Connection, now: float) -> int:
    """Delete buckets that are kept no longer, a bounded number; returns how many.

    They go by whole hours: so there are finer buckets for all of an hour, or for none of it.
    """
    return sum(rows.prune(conn, step, int(now - kept) // _HOUR * _HOUR) for step, kept in KEPT_SECONDS.items())


def _finest_kept(at: float, now: float) -> int:
    return next((step for step, kept in KEPT_SECONDS.items() if at >= now - kept), _COARSEST)


def _resolution(wanted_seconds: float, kept_step: int) -> tuple[int, int]:
    """The step to read and the width of a point, a multiple of it: as fine as is wanted and kept, and no finer."""
    fitting = max((step for step in KEPT_SECONDS if step <= wanted_seconds), default=_FINEST)
    step = max(fitting, kept_step)
    return step, step * max(1, math.ceil(wanted_seconds / step))


def _parts(first: int, last: int, steps: Sequence[int] = tuple(sorted(KEPT_SECONDS, reverse=True))) -> Iterator[Part]:
    """The fewest buckets that make up a time: the coarsest inside, finer ones at its ends."""
    if first >= last or not steps:
        return
    step, *finer = steps
    inner_first, inner_last = _ceil(first, step), last // step * step
    if inner_first >= inner_last:
        yield from _parts(first, last, finer)
        return
    yield from _parts(first, inner_first, finer)
    yield Part(step, inner_first, inner_last)
    yield from _parts(inner_last, last, finer)


def _ceil(seconds: float, step: int) -> int:
    return math.ceil(seconds / step) * step


def _measured(row: Any) -> dict[str, Any]:
    counts = {name: getattr(row, f"{name}_count") for name in GAUGES}
    levels = {
        name: Level(getattr(row, f"{name}_sum") / count, getattr(row, f"{name}_max")) if count else None
        for name, count in counts.items()
    }
    looked = counts["utilization_percent"]
    return {
        "samples": row.samples,
        "problems": row.samples - counts["used_bytes"],
        "seconds": row.seconds,
        "busy_seconds": row.busy_seconds,
        "hot_share": row.hot_samples / looked if looked else None,
        **levels,
    }
