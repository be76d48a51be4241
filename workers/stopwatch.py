"""Where an attempt's seconds went, stage by stage."""

import time
from collections.abc import Callable

from scheduler.records import Measured
from scheduler.states import Stage

WAITING = "waiting"  # prepared, and another job has the GPU
GAP = "gap"  # of the GPU, before this attempt's first work and after its predecessor's last


class Stopwatch:
    """Stages and steps of one attempt; `clock` returns seconds that only grow.

    The run counts from the moment the attempt got the GPU. What was done before, beside the job then running, is told
    as a stage and not as run time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: str = Stage.LOADING.value
        self._since = clock()
        self._started: float | None = None
        self._stages: dict[str, float] = {}
        self._steps = 0
        self._stepping_seconds = 0.0

    def enter(self, stage: Stage | str) -> None:
        """End the stage that is under way and begin another."""
        now = self._clock()
        self._stages[self._stage] = self._stages.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = str(stage), now

    def start(self, gap_seconds: float) -> None:
        """Note that the GPU is the attempt's from now on, after it was idle for `gap_seconds`."""
        self._started = self._clock()
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
        run_seconds = 0.0 if self._started is None else self._clock() - self._started
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
