"""What runs have needed on one kind of GPU, and what that says of runs to come. Pure: no I/O, no clock.

**Memory** must not be under-predicted: the measured peak may exceed the prediction in less than 1 % of jobs. The
logarithm of a peak is taken to be the level of its key, (plan, shape), plus noise, and the prediction is the upper
bound of the next value by Student's t: few measurements make it wide, many make it narrow. How large the noise is, a
key learns from its own residuals and from those of all others, starting from a presumed size that counts as a few
measurements. Noise that is not normal, such as a rare surge, is in the upper quantile of all residuals once there are
enough of them. On top comes one block of the allocator; and no prediction is below a peak that is still remembered.

A shape not yet measured gets the level of those that were, carried over by the bytes of the data sheet. How far that
may be off grows with the distance, as a random walk does, by a pace learned in the same way. A plan not yet measured is
further away than any shape, yet no leaner plan is predicted to need more than a richer one.

**An out-of-memory failure** is a lower bound. It raises the prediction of its plan and shape above what was not
enough, and with it that of larger shapes not yet run; a later run that was measured, whatever its peak, overrules it.
A bound that no run can overrule, because it lets none through, must be forgotten by its age: see `store.observations`.

**Seconds** order the queue, and are what can be expected, no bound: medians, so that one disturbed run moves nothing,
and for what was not measured scaled by exact FLOPs.

Simulated over thousands of jobs (`tests/unit/scheduler/test_learning.py`: normal and bimodal noise, rare surges, blocks
of an allocator, drift, a jump, always new shapes) 0.1 to 0.8 % exceed their prediction, which with 1 % of noise is 3 to
10 % above the peak. `benchmarks/footprint` holds the seconds to a public trace.
"""

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, fmean, median
from typing import Protocol

from scheduler.plans import PLANS, Technique
from scheduler.shape import Shape
from scheduler.states import Source


@dataclass(frozen=True, slots=True)
class Observation:
    """What one run on a GPU of `gpu_kind` needed; None where it was not measured.

    `working_peak_bytes` is beside the resident weights; from `Source.OUT_OF_MEMORY` it is only a lower bound. A run of
    n steps took `fixed_seconds + n * step_seconds`.
    """

    source: Source
    gpu_kind: str
    model: str
    plan: str
    shape_key: str
    working_peak_bytes: int | None = None
    step_seconds: float | None = None
    fixed_seconds: float | None = None


class Prior(Protocol):
    """What is known without measuring: `footprint.DataSheet`."""

    def resident_bytes(self, plan: str) -> int:
        """Bytes between jobs."""

    def working_bytes(self, plan: str, shape: Shape) -> int:
        """Bytes that a job adds at its peak."""

    def step_seconds(self, plan: str, shape: Shape) -> float:
        """Seconds of one denoising step."""

    def fixed_seconds(self, plan: str, shape: Shape) -> float:
        """Seconds of a job beside its steps."""

    def step_flops(self, shape: Shape) -> float:
        """Work of one denoising step."""

    def vae_flops(self, shape: Shape) -> float:
        """Work beside the steps."""


_EXCEEDED = 0.002  # aimed at, so that the model's own errors leave it below 0.01
_Z = NormalDist().inv_cdf(1 - _EXCEEDED)
_SURGE = 0.995  # the quantile of all residuals that a bound covers, where there are enough to tell
_BLOCK_BYTES = 20 * 2**20  # what PyTorch's allocator takes at once for tensors of 1 to 10 MiB
_NOISE, _NOISE_WEIGHT = 0.015, 8  # the presumed relative noise of a peak, and for how many residuals that counts
_PACE, _PACE_WEIGHT = 0.05, 8  # the presumed error of carrying a level over a factor of e in bytes, likewise
_SAME_SIZE = 0.1  # the distance between shapes of one size
_OTHER_PRESET = 1.0  # the distance to another preset, and to unguided
_OTHER_PLAN = 4.0  # the distance to another plan
_RAISE = 1.1  # an out-of-memory failure asks for so much more than was not enough
_RECENT = 15  # seconds are medians of so many runs


@dataclass(frozen=True, slots=True)
class _Known:
    """What was seen of one plan and shape, oldest first.

    `level` is the mean of the peaks' logarithms, and `squares` the sum of the squares of their `residuals`. `bound` is
    an out-of-memory failure that nothing overrules, 0 if there is none.
    """

    shape: Shape
    peaks: tuple[int, ...]
    level: float
    residuals: tuple[float, ...]
    squares: float
    bound: int
    steps: tuple[float, ...]
    fixed: tuple[float, ...]

    @property
    def runs(self) -> int:
        return max(len(self.peaks), len(self.steps))


@dataclass(frozen=True, slots=True)
class _Point:
    """A measured value beside the prior's: `size` and `ratio` are logarithms."""

    size: float
    ratio: float
    runs: int
    known: _Known


@dataclass(frozen=True, slots=True)
class _Carried:
    """A ratio for something not measured, and how far away the nearest measured point is: `origin`, in words."""

    ratio: float
    distance: float
    runs: int
    origin: str


class Learned:
    """Predictions for one kind of GPU and one model: `prior`, corrected by `seen` (all of that kind and model)."""

    def __init__(self, prior: Prior, seen: Iterable[Observation]) -> None:
        self._prior = prior
        self._known = _sorted_out(seen)
        measured = [known for known in self._known.values() if known.peaks]
        freedom = sum(len(known.peaks) - 1 for known in measured)
        squares = sum(known.squares for known in measured)
        self._noise = (_NOISE_WEIGHT * _NOISE**2 + squares) / (_NOISE_WEIGHT + freedom)
        self._surge = _quantile([each for known in measured if len(known.peaks) > 1 for each in known.residuals])
        plans = sorted({plan for plan, _ in self._known}, key=list(PLANS).index)
        self._bytes = {plan: self._points(plan, self._byte_ratio) for plan in plans}
        self._steps = {plan: self._points(plan, self._step_ratio) for plan in plans}
        self._fixed = {plan: self._points(plan, self._fixed_ratio) for plan in plans}
        self._pace, self._pace_freedom = _pace(self._bytes.values())

    def resident_bytes(self, plan: str) -> int:
        """Return what a loaded process holds between jobs: the prior's, since a worker itself registers what it has."""
        return self._prior.resident_bytes(plan)

    def working_bytes(self, plan: str, shape: Shape) -> int:
        """Return an upper bound of the peak beside the resident weights, in bytes."""
        known = self._known.get((plan, shape.key))
        if known and known.peaks:
            need = self._measured_bytes(known)
        else:
            carried = min(self._carried_bytes(plan, shape), self._richer_bytes(plan, shape))
            need = max(carried, self._floor_bytes(plan, shape))
        return max(need, int(known.bound * _RAISE)) if known else need

    def step_seconds(self, plan: str, shape: Shape) -> float:
        """Return the expected seconds of one denoising step."""
        known = self._known.get((plan, shape.key))
        if known and known.steps:
            return median(known.steps[-_RECENT:])
        carried = _carry(self._steps, plan, shape, math.log(self._prior.step_flops(shape)))
        return self._prior.step_seconds(plan, shape) * (math.exp(carried.ratio) if carried else 1.0)

    def fixed_seconds(self, plan: str, shape: Shape) -> float:
        """Return the expected seconds beside the steps."""
        known = self._known.get((plan, shape.key))
        if known and known.fixed:
            return median(known.fixed[-_RECENT:])
        carried = _carry(self._fixed, plan, shape, math.log(self._prior.vae_flops(shape)))
        return self._prior.fixed_seconds(plan, shape) * (math.exp(carried.ratio) if carried else 1.0)

    def basis(self, plan: str, shape: Shape) -> str:
        """Say what a prediction rests on: `measured 12 times here`, `scaled from 512x512x16`, `data sheet`."""
        known = self._known.get((plan, shape.key))
        raised = ", raised after it ran out of memory" if known and known.bound else ""
        if known and known.runs:
            return f"measured {known.runs} {'time' if known.runs == 1 else 'times'} here{raised}"
        size = math.log(self._prior.working_bytes(plan, shape))
        work = math.log(self._prior.step_flops(shape))
        carried = _carry(self._bytes, plan, shape, size) or _carry(self._steps, plan, shape, work)
        return (f"scaled from {carried.origin}" if carried else "data sheet") + raised

    def _measured_bytes(self, known: _Known) -> int:
        """The bound by a key's own peaks: Student's t, its noise shrunk towards that of all keys."""
        runs = len(known.peaks)
        freedom = _NOISE_WEIGHT + runs - 1
        noise = (_NOISE_WEIGHT * self._noise + known.squares) / freedom
        spread = max(self._surge, _student(freedom) * math.sqrt(noise * (1 + 1 / runs)))
        return int(max(math.exp(known.level + spread), *known.peaks)) + _BLOCK_BYTES

    def _carried_bytes(self, plan: str, shape: Shape) -> int:
        """The bound for a key without peaks: the prior's, times the ratio of those that have some."""
        prior = self._prior.working_bytes(plan, shape)
        carried = _carry(self._bytes, plan, shape, math.log(prior))
        if carried is None:
            return prior
        variance = self._noise * (1 + 1 / carried.runs) + self._pace * carried.distance
        spread = max(self._surge, _student(self._pace_freedom) * math.sqrt(variance))
        return int(prior * math.exp(carried.ratio + spread)) + _BLOCK_BYTES

    def _richer_bytes(self, plan: str, shape: Shape) -> int:
        """What the next richer plan is predicted to need in all, less what this one keeps resident."""
        richer = _richer(plan)
        if richer is None or not self._bytes:
            return sys.maxsize
        freed = self._prior.resident_bytes(richer) - self._prior.resident_bytes(plan)
        return max(1, self.working_bytes(richer, shape) + freed)

    def _floor_bytes(self, plan: str, shape: Shape) -> int:
        """What shapes no larger than this one have run out of memory at, scaled up."""
        prior = self._prior.working_bytes(plan, shape)
        floors = [0]
        for (other, _), known in self._known.items():
            if other == plan and known.bound and (base := self._prior.working_bytes(plan, known.shape)) <= prior:
                floors.append(int(known.bound * _RAISE * prior / base))
        return max(floors)

    def _points(self, plan: str, of: Callable[[str, _Known], _Point | None]) -> tuple[_Point, ...]:
        found = (of(plan, known) for (other, _), known in self._known.items() if other == plan)
        return tuple(sorted((point for point in found if point), key=lambda point: point.size))

    def _byte_ratio(self, plan: str, known: _Known) -> _Point | None:
        if not known.peaks:
            return None
        size = math.log(self._prior.working_bytes(plan, known.shape))
        return _Point(size, known.level - size, len(known.peaks), known)

    def _step_ratio(self, plan: str, known: _Known) -> _Point | None:
        if not known.steps:
            return None
        ratio = math.log(median(known.steps[-_RECENT:]) / self._prior.step_seconds(plan, known.shape))
        return _Point(math.log(self._prior.step_flops(known.shape)), ratio, len(known.steps), known)

    def _fixed_ratio(self, plan: str, known: _Known) -> _Point | None:
        if not known.fixed:
            return None
        ratio = math.log(median(known.fixed[-_RECENT:]) / self._prior.fixed_seconds(plan, known.shape))
        return _Point(math.log(self._prior.vae_flops(known.shape)), ratio, len(known.fixed), known)


def _sorted_out(seen: Iterable[Observation]) -> dict[tuple[str, str], _Known]:
    """The observations by plan and shape, but for plans that this version does not know."""
    by_key: dict[tuple[str, str], list[Observation]] = defaultdict(list)
    for one in seen:
        if one.plan in PLANS:
            by_key[one.plan, one.shape_key].append(one)
    return {key: _known(key[1], runs) for key, runs in by_key.items()}


def _known(shape_key: str, runs: Sequence[Observation]) -> _Known:
    bound = 0
    peaks: list[int] = []
    for run in runs:
        if run.source is Source.OUT_OF_MEMORY:
            bound = max(bound, run.working_peak_bytes or 0)
        elif run.working_peak_bytes:
            peaks.append(run.working_peak_bytes)
            bound = 0
    logs = [math.log(peak) for peak in peaks]
    level = fmean(logs) if logs else 0.0
    residuals = tuple(log - level for log in logs)
    return _Known(
        shape=Shape.parse(shape_key),
        peaks=tuple(peaks),
        level=level,
        residuals=residuals,
        squares=sum(residual**2 for residual in residuals),
        bound=bound,
        steps=tuple(run.step_seconds for run in runs if run.step_seconds),
        fixed=tuple(run.fixed_seconds for run in runs if run.fixed_seconds),
    )


def _pace(plans: Iterable[Sequence[_Point]]) -> tuple[float, float]:
    """How fast ratios drift apart with the size, as variance per unit of it; and for how many residuals that counts."""
    squares, pairs = _PACE_WEIGHT * _PACE**2, _PACE_WEIGHT
    for points in plans:
        for one, other in pairwise(points):
            squares += (other.ratio - one.ratio) ** 2 / _distance(
                one.known.shape, other.known.shape, other.size - one.size
            )
            pairs += 1
    return squares / pairs, float(pairs)


def _carry(plans: dict[str, tuple[_Point, ...]], plan: str, shape: Shape, size: float) -> _Carried | None:
    """The ratio at `size`: between two points on the line through them, beyond the outermost its own."""
    found = _nearest_plan(plans, plan)
    if found is None:
        return None
    points = plans[found]
    # Not always of the shape's own preset: a far smaller shape of that tells less than its size under another one.
    nearest = min(points, key=lambda point: _distance(point.known.shape, shape, point.size - size))
    alike = [point for point in points if _kinship(point.known.shape, nearest.known.shape) == 0.0]
    below = max((point for point in alike if point.size <= size), key=lambda point: point.size, default=nearest)
    above = min((point for point in alike if point.size >= size), key=lambda point: point.size, default=nearest)
    between = (size - below.size) / (above.size - below.size) if above.size > below.size else 0.0
    ratio = nearest.ratio if above.size == below.size else below.ratio + between * (above.ratio - below.ratio)
    distance, origin = _distance(nearest.known.shape, shape, nearest.size - size), nearest.known.shape.key
    if found == plan:
        return _Carried(ratio, distance, nearest.runs, origin)
    return _Carried(ratio, distance + _OTHER_PLAN, nearest.runs, f"{origin} under {found}")


def _distance(one: Shape, other: Shape, size: float) -> float:
    return abs(size) + _SAME_SIZE + _kinship(one, other)


def _kinship(one: Shape, other: Shape) -> float:
    return _OTHER_PRESET * ((one.preset != other.preset) + (one.guided != other.guided))


def _nearest_plan(plans: dict[str, tuple[_Point, ...]], plan: str) -> str | None:
    """The plan itself if something was measured under it, else one of its precision, else the nearest in the list."""
    order = list(PLANS)

    def distance(other: str) -> tuple[bool, bool, int]:
        same = PLANS[other].precision is PLANS[plan].precision
        return other != plan, not same, abs(order.index(other) - order.index(plan))

    return min((other for other, points in plans.items() if points), key=distance, default=None)


def _richer(plan: str) -> str | None:
    """The plan of the same precision with the next technique before; None for the first."""
    techniques = list(Technique)
    mine = PLANS[plan]
    richer = [
        other.name
        for other in PLANS.values()
        if other.precision is mine.precision and techniques.index(other.technique) < techniques.index(mine.technique)
    ]
    return max(richer, key=lambda name: techniques.index(PLANS[name].technique), default=None)


def _quantile(residuals: Sequence[float]) -> float:
    """The value that the next residual exceeds with a chance of 1 - `_SURGE`; 0 where there are too few to tell."""
    place = math.ceil(_SURGE * (len(residuals) + 1))
    return sorted(residuals)[place - 1] if place <= len(residuals) else 0.0


def _student(freedom: float) -> float:
    """Student's t, exceeded by a share of `_EXCEEDED`; Hill's expansion, exact enough from four degrees of freedom."""
    z, f = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * f)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * f**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * f**3)
    )
