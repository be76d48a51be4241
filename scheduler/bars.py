"""The attempts of a GPU as bars of a chart: in lanes, so that none covers another, and few enough to draw.

A week of a large fleet has a hundred thousand attempts; so they are plain tuples, and each is looked at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter

RUNNING = "running"  # stands for the outcome of an attempt that has none yet
_BLOCK = 10  # a block of short attempts is not much longer than so many times what can just be seen

Key = tuple[str, int]  # an attempt's job and lease
# An attempt: its GPU, when it began and ended, its outcome (both None while it runs), job and lease.
Run = tuple[str, float, float | None, str | None, str, int]


@dataclass(slots=True)
class Bar:
    """An attempt, or a block of several short ones that follow each other; `ended_at` is None while it runs.

    Bars of one lane do not overlap by more than can be seen. `outcomes` counts how its attempts ended, and `key` names
    the attempt, where it is one.
    """

    lane: int
    began_at: float
    ended_at: float | None
    outcomes: dict[str, int]
    key: Key | None

    @property
    def attempts(self) -> int:
        """How many attempts it stands for."""
        return sum(self.outcomes.values())

    @property
    def outcome(self) -> str:
        """How most of its attempts ended."""
        return max(self.outcomes, key=self.outcomes.__getitem__)


def draw(runs: Iterable[Run], seconds: float, resolution_seconds: float, most: int) -> list[Bar]:
    """Return the bars of a GPU's runs over so many seconds, in the order in which they began.

    What is shorter than `resolution_seconds` cannot be seen. Where more than `most` bars are left, that is doubled
    until they are fewer, or nothing could be seen any more.
    """
    ordered = sorted(runs, key=itemgetter(1))
    bars = _draw(ordered, resolution_seconds)
    while len(bars) > most and resolution_seconds < seconds:
        resolution_seconds *= 2
        bars = _draw(ordered, resolution_seconds)
    return bars


def _draw(runs: Sequence[Run], resolution: float) -> list[Bar]:
    bars: list[Bar] = []
    newest: list[Bar] = []  # the last bar of each lane
    for _, began, ended, outcome, job_id, lease in runs:
        lane, before = _free_lane(newest, began + resolution)
        if (
            before is not None
            and ended is not None
            and ended - began < resolution
            and _takes(before, began, resolution)
        ):
            before.key = None
            before.ended_at = max(ended, before.ended_at or ended)
            before.outcomes[outcome or RUNNING] = before.outcomes.get(outcome or RUNNING, 0) + 1
            continue
        bar = Bar(lane, began, ended, {outcome or RUNNING: 1}, (job_id, lease))
        bars.append(bar)
        newest[lane : lane + 1] = [bar]
    return bars


def _free_lane(newest: Sequence[Bar], at: float) -> tuple[int, Bar | None]:
    """The first lane in which nothing runs at that time, with its last bar; or a new one."""
    for lane, bar in enumerate(newest):
        if bar.ended_at is not None and bar.ended_at <= at:
            return lane, bar
    return len(newest), None


def _takes(bar: Bar, began: float, resolution: float) -> bool:
    """Whether a short attempt that began then goes into the block: there is no gap to be seen, and it is not long."""
    ended = bar.ended_at
    if ended is None or began - ended >= resolution:
        return False
    longest = resolution if bar.key is not None else _BLOCK * resolution
    return ended - bar.began_at < longest
