"""EASY backfill on one GPU: when a job that does not fit yet will, and what may run there until then. Pure, no I/O.

The job at the head of the queue that waits for memory gets a reservation: the moment at which, by the predictions,
enough running jobs will have ended. Another job may start before that only if it will have ended by then, or if it fits
into what the reservation leaves free; so no reserved start is pushed back by a job that came after it. (Lifka, "The
ANL/IBM SP scheduling system", 1995, with bytes of memory in place of nodes.)
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

Lane = tuple[str, int]  # a worker, and one of its lanes


@dataclass(frozen=True, slots=True)
class Holding:
    """An open lease: its lane, what it holds there, and what was left of it at its last progress, so long ago.

    One that has not `stepped` has yet to take what it was promised.
    """

    lane: Lane
    reserved_bytes: int
    left_seconds: float
    since_progress_seconds: float
    stepped: bool = True


@dataclass(frozen=True, slots=True)
class Running:
    """A lane in which jobs run: what they hold, for how long still, and what of it no look at the GPU shows yet."""

    reserved_bytes: int
    remaining_seconds: float
    unseen_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """What may run until the reserved start, `seconds` from now; `spare_bytes` stay free even after it."""

    seconds: float
    spare_bytes: int

    def after(self, seconds: float) -> "Window":
        """Return the window for a job that starts so much later: after those of its own lane."""
        return Window(self.seconds - seconds, self.spare_bytes)

    def allows(self, est_seconds: float, reserved_bytes: int, slack: float) -> bool:
        """Tell whether a job may start now; `slack` is how many times its estimate it might take."""
        return est_seconds * slack <= self.seconds or reserved_bytes <= self.spare_bytes


def lanes(holdings: Iterable[Holding]) -> dict[Lane, Running]:
    """Return what holds memory, by lane: the jobs of one run one after another, each in the largest one's memory."""
    of: dict[Lane, list[Holding]] = defaultdict(list)
    for holding in holdings:
        of[holding.lane].append(holding)
    return {
        lane: Running(
            _most(jobs),
            max(0.0, sum(one.left_seconds for one in jobs) - min(one.since_progress_seconds for one in jobs)),
            _most(jobs) - _most(one for one in jobs if one.stepped),
        )
        for lane, jobs in of.items()
    }


def _most(jobs: Iterable[Holding]) -> int:
    return max((one.reserved_bytes for one in jobs), default=0)


def window(free_bytes: int, needed_bytes: int, running: Iterable[Running]) -> Window | None:
    """Return the window before a job that needs `needed_bytes` can start; None if it never can beside what stays."""
    after, seconds = free_bytes, 0.0
    for job in sorted(running, key=lambda job: job.remaining_seconds):
        if after >= needed_bytes and job.remaining_seconds > seconds:
            break
        after += job.reserved_bytes
        seconds = job.remaining_seconds
    return Window(seconds, after - needed_bytes) if after >= needed_bytes else None
