"""EASY backfill on one GPU: when a job that does not fit yet will, and what may run there until then. Pure, no I/O.

The job at the head of the queue that waits for memory gets a reservation: the moment at which, by the predictions,
enough running jobs will have ended. Another job may start before that only if it will have ended by then, or if it fits
into what the reservation leaves free; so no reserved start is pushed back by a job that came after it. (Lifka, "The
ANL/IBM SP scheduling system", 1995, with bytes of memory in place of nodes.)
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Running:
    """A job that runs on the GPU: what it holds, and for how long still."""

    reserved_bytes: int
    remaining_seconds: float


@dataclass(frozen=True, slots=True)
class Window:
    """What may run until the reserved start, `seconds` from now; `spare_bytes` stay free even after it."""

    seconds: float
    spare_bytes: int

    def allows(self, est_seconds: float, reserved_bytes: int, slack: float) -> bool:
        """Tell whether a job may start now; `slack` is how many times its estimate it might take."""
        return est_seconds * slack <= self.seconds or reserved_bytes <= self.spare_bytes


def remaining_seconds(predicted_seconds: float, fraction: float, since_progress_seconds: float) -> float:
    """Return what is left of an attempt that was at `fraction` so many seconds ago, by its prediction."""
    return max(0.0, (1.0 - fraction) * predicted_seconds - since_progress_seconds)


def window(free_bytes: int, needed_bytes: int, running: Iterable[Running]) -> Window | None:
    """Return the window before a job that needs `needed_bytes` can start; None if it never can beside what stays."""
    after, seconds = free_bytes, 0.0
    for job in sorted(running, key=lambda job: job.remaining_seconds):
        if after >= needed_bytes and job.remaining_seconds > seconds:
            break
        after += job.reserved_bytes
        seconds = job.remaining_seconds
    return Window(seconds, after - needed_bytes) if after >= needed_bytes else None
