"""The policies that are compared, by name, and one trial of one of them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.schedule import reelq
from benchmarks.schedule.arrivals import Arrival, TimesAndUsers, stream
from benchmarks.schedule.events import Ended, play
from benchmarks.schedule.outcome import Figures, bound, figures
from benchmarks.schedule.simple import Blind, StrictFifo
from scheduler.policy import Order

STRICT = "FIFO, the head blocks"  # what the others are put in proportion to
BOUND = "bound"
_SIMPLE = {STRICT: StrictFifo, "FIFO, blind to memory": Blind}
_REELQ: dict[str, dict[str, Any]] = {
    "reelq": {"order": Order.WEIGHTED},
    "reelq, equal shares": {"order": Order.WEIGHTED, "share": 1.0},
    "reelq, two workers a GPU": {"order": Order.WEIGHTED, "slots": 2},
    "reelq, shortest first": {"order": Order.SHORTEST_FIRST},
    "reelq, fifo": {"order": Order.FIFO},
}
NAMES = (*_REELQ, *_SIMPLE, BOUND)
_MEMORY = Path("/dev/shm")  # noqa: S108  nothing of a trial has to outlive it, so no disk should be waited for


@dataclass(frozen=True, slots=True)
class Trial:
    """A policy on one stream."""

    name: str
    times_and_users: TimesAndUsers
    load: float
    seed: int


def run(trial: Trial) -> Figures:
    """Play the stream of a trial and return its figures."""
    jobs = stream(trial.times_and_users, trial.load, trial.seed)
    if trial.name == BOUND:
        return bound(jobs)
    if trial.name in _SIMPLE:
        return figures(jobs, play(_SIMPLE[trial.name](), jobs, trial.seed))
    return figures(jobs, _play_reelq(_REELQ[trial.name], jobs, trial.seed))


def _play_reelq(settings: dict[str, Any], jobs: Sequence[Arrival], seed: int) -> list[Ended]:
    with (
        tempfile.TemporaryDirectory(prefix="reelq-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder,
        reelq.opened(Path(folder) / "data", **settings) as policy,
    ):
        return play(policy, jobs, seed)
