"""Where an attempt's seconds went, stage by stage."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from scheduler.records import Measured
from scheduler.states import Stage

WAITING = "waiting"  # prepared, and another job has the GPU
GAP = "gap"  # of the GPU, before this attempt's first work and after its predecessor's last


@dataclass(frozen=True, slots=True)
class Lap:
    """A stage from when it began to when it ended, by the stopwatch's clock, and the steps made in it."""

    stage: str
    began: float
    ended: float
    steps: int


class Stopwatch:
    """Stages and steps of one attempt; `clock` returns seconds that only grow.

    The run counts from the moment the attempt got the GPU. What was done before, beside the job then running, is told
    as a stage and not as run time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self.began = clock()
        self.laps: list[Lap] = []  # the stages that are over, in their order
        self._stage: str = Stage.LOADING.value
        self._since = self.began
        self._steps_before = 0  # the stage that is under way
        self._started: float | None = None
        self._stages: dict[str, float] = {}
        self._steps = 0
        self._stepping_seconds = 0.0

    def enter(self, stage: Stage | str) -> None:
        """End the stage that is under way and begin another."""
        now = self.now()
        self._stages[self._stage] = self._stages.get(self._stage, 0.0) + now - self._since
        self.laps.append(Lap(self._stage, self._since, now, self._steps - self._steps_before))
        self._stage, self._since, self._steps_before = str(stage), now, self._steps

    def start(self, gap_seconds: float) -> None:
        """Note that the GPU is the attempt's from now on, after it was idle for `gap_seconds`."""
        self._started = self.now()
        self._stages[GAP] = gap_seconds

    def stepped(self, seconds: float) -> None:
        """Count a denoising step."""
        self._steps += 1
        self._stepping_seconds += seconds

    @property
    def steps(self) -> int:
        """How many steps this attempt ran."""
        return self._steps

    def measured(
        self,
        *,
        vram_peak_bytes: int | None,
        working_peak_bytes: int | None,
        sharing: int,
        energy_joules: float | None,
    ) -> Measured:
        """Return what was measured until now."""
        self.enter(self._stage)
        run_seconds = 0.0 if self._started is None else self.now() - self._started
        return Measured(
            vram_peak_bytes=vram_peak_bytes,
            run_seconds=run_seconds,
            working_peak_bytes=working_peak_bytes,
            steps=self._steps,
            step_seconds=self._stepping_seconds / self._steps if self._steps else None,
            fixed_seconds=max(0.0, run_seconds - self._stepping_seconds),
            sharing=sharing,
            energy_joules=energy_joules,
            stage_seconds={stage: round(seconds, 6) for stage, seconds in self._stages.items()},
        )
