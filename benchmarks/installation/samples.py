"""What the GPUs were seen to do: memory, utilisation and power as the attempts that ran at each time ask for it.

Each step is reckoned by itself, and linear in the time that attempts took of a bucket: so the buckets of all steps tell
the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.installation.fleet import GIB, Machine
from benchmarks.installation.history import Past
from scheduler.samples import KEPT_SECONDS

_LOOK_SECONDS = 5  # between two samples
_HOT = 0.8  # of a bucket's time with a job: then its utilisation is near its limit
_IDLE_WATTS = 70.0


def buckets(machine: Machine, pasts: Sequence[Past], since: float, until: float) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a GPU whose jobs are `pasts`, of each step as far back in [since, until) as it is kept."""
    for step, kept in KEPT_SECONDS.items():
        first = int(max(since, until - kept) // step)
        load = _load(pasts, step)
        for at in range(first, int(until // step)):
            yield _bucket(machine, step, at * step, *load.get(at, (0.0, 0.0)))


def _load(pasts: Iterable[Past], step: int) -> Mapping[int, tuple[float, float]]:
    """The seconds in which attempts ran, and their bytes times these, by the number of the bucket."""
    seconds: dict[int, float] = defaultdict(float)
    byte_seconds: dict[int, float] = defaultdict(float)
    for past in pasts:
        need = past.footprint.working_bytes
        for span in past.spans:
            for at in range(int(span.started_at // step), int(span.ended_at // step) + 1):
                inside = min(span.ended_at, (at + 1) * step) - max(span.started_at, at * step)
                seconds[at] += inside
                byte_seconds[at] += inside * need
    return {at: (seconds[at], byte_seconds[at]) for at in seconds}


def _bucket(machine: Machine, step: int, at: int, seconds: float, byte_seconds: float) -> Mapping[str, Any]:
    count = step // _LOOK_SECONDS
    share = min(1.0, seconds / step)
    resident = 7.0 * GIB
    reserved = resident + byte_seconds / step
    gauges = {
        "used_bytes": 0.5 * GIB + resident + 0.9 * byte_seconds / step,
        "foreign_bytes": 0.5 * GIB,
        "reserved_bytes": reserved,
        "utilization_percent": 96.0 * share,
        "power_watts": _IDLE_WATTS + (machine.card.watts - _IDLE_WATTS) * share,
        "temperature_celsius": 38.0 + 30.0 * share,
    }
    row: dict[str, Any] = {
        "gpu_id": machine.id,
        "step_seconds": step,
        "at": at,
        "samples": count,
        "hot_samples": count if share > _HOT else 0,
        "seconds": float(step),
        "busy_seconds": share * step,
    }
    for name, value in gauges.items():
        row |= {f"{name}_sum": value * count, f"{name}_count": count, f"{name}_max": value}
    return row
