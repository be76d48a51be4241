"""Policies that others have, each as few lines as it takes. All start one job at a time on a GPU."""

from collections import Counter, deque
from collections.abc import Sequence

from benchmarks.schedule.arrivals import Arrival
from benchmarks.schedule.events import Run, Start
from benchmarks.schedule.fleet import FLEET, fits, need

_ATTEMPTS = 3  # as many as reelq grants by default


class StrictFifo:
    """First come, first served, and nobody overtakes: while no idle GPU fits the first in line, all wait."""

    slots = 1

    def __init__(self) -> None:
        self._line: deque[Arrival] = deque()

    def submit(self, job: Arrival, at: float) -> None:  # noqa: ARG002  what every policy is told
        """Do what `Policy.submit` says."""
        self._line.append(job)

    def start(self, gpu: int, slot: int, at: float, beside: Sequence[Run]) -> Start | None:  # noqa: ARG002
        """Do what `Policy.start` says."""
        if not self._line or not fits(self._line[0].params, FLEET[gpu]):
            return None
        job = self._line.popleft()
        return Start(job, need(job.params, FLEET[gpu]).seconds)

    def finish(self, run: Run, at: float) -> None:
        """Do what `Policy.finish` says."""


class Blind(StrictFifo):
    """A worker that takes the first job without a look at its memory, one job a GPU at a time.

    What does not fit fails in its first step and goes to the end of the line, until its attempts are used up.
    """

    def __init__(self) -> None:
        super().__init__()
        self._attempts: Counter[int] = Counter()

    def start(self, gpu: int, slot: int, at: float, beside: Sequence[Run]) -> Start | None:  # noqa: ARG002
        """Do what `Policy.start` says."""
        if not self._line:
            return None
        job = self._line.popleft()
        self._attempts[job.number] += 1
        asked = need(job.params, FLEET[gpu])
        fails = asked.vram_bytes > FLEET[gpu].total_bytes
        return Start(job, asked.first_step_seconds if fails else asked.seconds, fails)

    def finish(self, run: Run, at: float) -> None:  # noqa: ARG002
        """Do what `Policy.finish` says."""
        if run.start.fails and self._attempts[run.start.job.number] < _ATTEMPTS:
            self._line.append(run.start.job)
