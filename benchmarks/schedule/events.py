"""Virtual time: jobs come, idle slots of GPUs ask a policy for one, and what runs ends as predicted.

Jobs that run on one GPU at once share its time equally, so that together they are no faster than one after another.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.schedule.arrivals import Arrival
from benchmarks.schedule.fleet import FLEET


@dataclass(frozen=True, slots=True)
class Start:
    """A job that starts and takes `seconds` alone; one that `fails` then ends for want of memory."""

    job: Arrival
    seconds: float
    fails: bool = False


@dataclass(slots=True)
class Run:
    """A start on a GPU: when, and what is left of it."""

    start: Start
    gpu: int
    slot: int
    started_at: float
    left_seconds: float

    @property
    def fraction(self) -> float:
        """How much of it is done."""
        return 1.0 - self.left_seconds / self.start.seconds


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended."""

    start: Start
    gpu: int
    started_at: float
    ended_at: float


class Policy(Protocol):
    """Who decides what starts where. Times are seconds since the first arrival."""

    slots: int  # of each GPU

    def submit(self, job: Arrival, at: float) -> None:
        """Take a job."""

    def start(self, gpu: int, slot: int, at: float, beside: Sequence[Run]) -> Start | None:
        """Return what an idle slot starts now, or None; `beside` is what runs on its GPU."""

    def finish(self, run: Run, at: float) -> None:
        """Note the end of a run."""


@dataclass
class _Machines:
    slots: int
    now: float = 0.0
    runs: list[Run] = field(default_factory=list)

    def on(self, gpu: int) -> list[Run]:
        return [run for run in self.runs if run.gpu == gpu]

    def idle(self) -> list[tuple[int, int]]:
        taken = {(run.gpu, run.slot) for run in self.runs}
        everything = [(gpu, slot) for gpu in range(len(FLEET)) for slot in range(self.slots)]
        return [place for place in everything if place not in taken]

    def next_end(self) -> tuple[float, Run] | None:
        """When the next run ends, if nothing else starts there, and which one."""
        ends = [(self.now + run.left_seconds * len(self.on(run.gpu)), run) for run in self.runs]
        return min(ends, key=lambda end: end[0], default=None)

    def advance(self, at: float) -> None:
        sharing = [len(self.on(run.gpu)) for run in self.runs]
        for run, jobs in zip(self.runs, sharing, strict=True):
            run.left_seconds = max(0.0, run.left_seconds - (at - self.now) / jobs)
        self.now = at


def play(policy: Policy, jobs: Sequence[Arrival], seed: int) -> list[Ended]:
    """Run a stream to its end and return every run; of idle slots a drawn one asks first, as in a race."""
    draw = random.Random(seed)  # noqa: S311  a race that can be had again
    machines, ended, coming = _Machines(policy.slots), [], list(reversed(jobs))
    while True:
        end = machines.next_end()
        if coming and (end is None or coming[-1].at <= end[0]):
            job = coming.pop()
            machines.advance(job.at)
            policy.submit(job, job.at)
        elif end is not None:
            at, run = end
            machines.advance(at)
            machines.runs.remove(run)
            policy.finish(run, at)
            ended.append(Ended(run.start, run.gpu, run.started_at, at))
        else:
            return ended
        while _start_some(policy, machines, draw):
            pass


def _start_some(policy: Policy, machines: _Machines, draw: random.Random) -> bool:
    idle, now = machines.idle(), machines.now
    draw.shuffle(idle)
    before = len(machines.runs)
    for gpu, slot in idle:
        start = policy.start(gpu, slot, now, machines.on(gpu))
        if start is not None:
            machines.runs.append(Run(start, gpu, slot, now, start.seconds))
    return len(machines.runs) > before
