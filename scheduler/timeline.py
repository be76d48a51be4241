"""The timeline: for each GPU what ran on it and when, over how its memory was used."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from scheduler import samples
from scheduler.bars import Bar, Run, draw
from scheduler.errors import InvalidParameter, NotFound
from scheduler.store import timeline as rows
from scheduler.store.database import Database

USUAL_SECONDS = 3600.0
_DAY = 86_400.0
LONGEST_SECONDS = 31 * _DAY
_MOST_BARS = 600  # of a GPU
_MOST_POINTS = 240  # of a curve
_MOST_BUCKETS = 1500  # of samples of a GPU that its curve is made from


@dataclass(frozen=True, slots=True)
class Ran:
    """What an attempt was of; sizes are bytes, and None where nothing was measured or no error is known."""

    job_id: str
    lease: int
    number: int
    tenant: str
    model: str
    plan: str
    shape: str
    predicted_seconds: float
    predicted_vram_bytes: int
    vram_peak_bytes: int | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class Curve:
    """Means of a GPU's samples: a value for each `step_seconds` from `first` on (seconds since 1970).

    None where nothing was measured. All are equally long; there are none where the GPU was never sampled.
    """

    first: int
    step_seconds: int
    used_bytes: Sequence[float | None]
    reserved_bytes: Sequence[float | None]
    foreign_bytes: Sequence[float | None]
    utilization_percent: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Row:
    """A GPU over the time. Its host, name and memory are None where it is no longer registered."""

    gpu_id: str
    host: str | None
    name: str | None
    total_bytes: int | None
    bars: Sequence[Bar]
    curve: Curve


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened in `window`: since, until. What is shorter than `resolution_seconds` cannot be seen.

    `attempts` has those that are a bar by themselves, by job and lease.
    """

    window: tuple[float, float]
    resolution_seconds: float
    gpus: Sequence[Row]
    attempts: Mapping[tuple[str, int], Ran]


class Timelines:
    """Timelines of any window, as far back as attempts and samples are kept. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, since: float | None = None, until: float | None = None, gpu_id: str | None = None) -> Timeline:
        """Return what ran in [since, until), on all GPUs or one; the default is until now, and the hour before.

        Times are seconds since 1970 by the database's clock. There are all GPUs that are registered, and those on which
        something ran. Raises `InvalidParameter` for a window that is empty or longer than `LONGEST_SECONDS`, and
        `NotFound` where `gpu_id` is neither registered nor known from the window.
        """
        with self._database.read() as conn:
            now = self._database.now(conn)
            window = _window(since, until, now)
            seconds = window[1] - window[0]
            resolution = seconds / _MOST_BARS
            bars = {
                of: draw(runs, seconds, resolution, _MOST_BARS)
                for of, runs in _by_gpu(rows.runs(conn, *window, gpu_id)).items()
            }
            fleet = {row.id: row for row in rows.fleet(conn)}
            gpu_ids = sorted({*bars, *fleet}) if gpu_id is None else [gpu_id]
            curves = _curves(conn, gpu_ids, window, now)
            if gpu_id is not None and gpu_id not in {*bars, *fleet} and not curves[gpu_id].used_bytes:
                raise NotFound(f"no GPU {gpu_id[:80]}")
            attempts = _attempts(conn, bars.values())
        found = [_row(one, fleet.get(one), bars.get(one, []), curves[one]) for one in gpu_ids]
        return Timeline(window, resolution, found, attempts)

    def curves(self, seconds: float, most: int) -> Mapping[str, Curve]:
        """Return the curves of all registered GPUs over the last so many seconds, in at most `most` points, by id."""
        with self._database.read() as conn:
            now = self._database.now(conn)
            return _curves(conn, [row.id for row in rows.fleet(conn)], (now - seconds, now), now, most)


def _window(since: float | None, until: float | None, now: float) -> tuple[float, float]:
    end = now if until is None else min(until, now)
    start = max(0.0, end - USUAL_SECONDS if since is None else since)
    if start >= end:
        raise InvalidParameter("since", "must be before until, and before now")
    if end - start > LONGEST_SECONDS:
        raise InvalidParameter("since", f"must be at most {LONGEST_SECONDS / _DAY:.0f} days before until")
    return start, end


def _by_gpu(runs: Iterable[Run]) -> Mapping[str, Sequence[Run]]:
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[run[0]].append(run)
    return found


def _curves(
    conn: Connection, gpu_ids: Iterable[str], window: tuple[float, float], now: float, most: int = _MOST_POINTS
) -> Mapping[str, Curve]:
    """The curves of all these GPUs, by id."""
    part, width = samples.fitting(*window, now, most=most, most_buckets=_MOST_BUCKETS)
    count = (part.last - part.first) // width
    gauges: dict[str, list[list[float | None]]] = {}
    for gpu_id, start, *means in rows.curves(conn, gpu_ids, part, width):
        if gpu_id not in gauges:
            gauges[gpu_id] = [[None] * count for _ in means]
        for gauge, mean in zip(gauges[gpu_id], means, strict=True):
            gauge[(start - part.first) // width] = mean
    nothing: list[list[float | None]] = [[] for _ in rows.GAUGES]
    return {one: Curve(part.first, width, *gauges.get(one, nothing)) for one in gpu_ids}


def _attempts(conn: Connection, bars: Iterable[Iterable[Bar]]) -> Mapping[tuple[str, int], Ran]:
    """What those bars are of that are one attempt."""
    job_ids = {bar.key[0] for of_gpu in bars for bar in of_gpu if bar.key is not None}
    return {row[:2]: Ran(*row) for row in rows.attempts(conn, job_ids)}


def _row(gpu_id: str, known: Any, bars: Sequence[Bar], curve: Curve) -> Row:
    host, name, total_bytes = (None, None, None) if known is None else (known.host, known.name, known.total_bytes)
    return Row(gpu_id, host, name, total_bytes, bars, curve)
