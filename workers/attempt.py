"""One attempt as the engine handles it: the lease, the run, and all that is kept beside them."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from scheduler.records import JobError, Lease
from scheduler.shape import Shape
from scheduler.states import Stage
from workers.control import Cause, Control
from workers.heartbeat import Pulse
from workers.keeper import Keeper
from workers.progress import ProgressScale
from workers.stopwatch import Stopwatch

if TYPE_CHECKING:
    from workers.pipelines.i2vgen_xl import Run, Snapshot


@dataclass(eq=False)
class Attempt:
    """One lease being run. What the engine learns on the way is noted here; `endings` tells the store.

    `run` is None where the job could not even be prepared. `vram_peak_bytes` and `working_peak_bytes` are taken when
    the GPU's part is over. `safer` is how far the numerical guard has gone.
    """

    lease: Lease
    control: Control
    pulse: Pulse
    scale: ProgressScale
    stopwatch: Stopwatch
    keeper: Keeper
    run: "Run | None" = None
    sharing: int = 1
    vram_peak_bytes: int | None = None
    working_peak_bytes: int | None = None
    energy_joules: float | None = None
    safer: frozenset[str] = frozenset()
    stage: Stage = Stage.LOADING
    begun: bool = False  # it has had the GPU
    done: int = 0  # steps that are known to have gone well, those of an earlier attempt included
    log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        self.log = structlog.get_logger().bind(
            job_id=self.lease.job_id, attempt=self.lease.attempt, lease=self.lease.fence
        )

    @property
    def must_run(self) -> "Run":
        """The run; asking before there is one is a mistake of the caller."""
        if self.run is None:
            raise RuntimeError(f"{self.lease.job_id} was never prepared")
        return self.run

    @property
    def kind(self) -> Hashable:
        """What attempts must have in common to share a pass."""
        return Shape.of(self.lease.params).key, self.lease.plan, self.safer

    def snapshot(self) -> "Snapshot | None":
        """Where it may be taken up again; None where there is nothing to save, or the GPU does not give it."""
        if self.run is None or self.done == 0:
            return None
        try:
            return self.run.snapshot()
        except Exception as error:  # noqa: BLE001  then the last one that was stored has to do
            self.log.warning("the latents cannot be saved", error=type(error).__name__)
            return None

    def enter(self, stage: Stage) -> None:
        """Note that a stage begins."""
        self.stage = stage
        self.stopwatch.enter(stage)


@dataclass(frozen=True)
class Ending:
    """How an attempt ends, short of success: what interrupted it, or what went wrong at which stage.

    `snapshot` is what a next attempt may go on from.
    """

    cause: Cause | None = None
    error: JobError | None = None
    stage: Stage | None = None
    snapshot: "Snapshot | None" = None
    unexpected: str | None = None  # a traceback for the log, of a failure that nobody foresaw
