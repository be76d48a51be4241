"""Where an installation stands in the matrix of load against growth, in percent from the left and from the top."""

from dataclasses import dataclass

from scheduler.advice import HIGH_GROWTH, HIGH_LOAD, Verdict

_EDGE = 4.0  # no point is drawn nearer to the edge
_GROWTH_SPAN = 2 * HIGH_GROWTH  # a month, from the middle to the top or the bottom


@dataclass(frozen=True, slots=True)
class Quadrant:
    """A quarter of the matrix, by the place of its upper left corner."""

    verdict: Verdict
    words: str
    x: int
    y: int


QUADRANTS = (
    Quadrant(Verdict.WATCH, "Plan and watch", 0, 0),
    Quadrant(Verdict.ADVANCE, "Advance capacity", 50, 0),
    Quadrant(Verdict.KEEP, "Keep", 0, 50),
    Quadrant(Verdict.OPTIMISE, "Optimise software", 50, 50),
)


def x_of(load: float) -> float:
    """Return the place of a load in [0, 1]: up to 70 % is the left half, what is above it the right one."""
    share = load / HIGH_LOAD / 2 if load < HIGH_LOAD else 0.5 + (load - HIGH_LOAD) / (1 - HIGH_LOAD) / 2
    return _inside(100 * share)


def y_of(monthly: float | None, *, high: bool | None) -> float:
    """Return the place of a growth, as a share a month; one that is only known to be high or not is mid-way.

    One that is not known at all counts as not high.
    """
    if monthly is None:
        return 25.0 if high else 75.0
    return _inside(50 - 50 * (monthly - HIGH_GROWTH) / _GROWTH_SPAN)


def _inside(percent: float) -> float:
    return round(min(100 - _EDGE, max(_EDGE, percent)), 2)
