"""What this process holds of its GPU: weights for the plan at hand, measured, told to the ledger, and given back.

A worker that comes to hold more says so before the job that made it ends, one that holds less after: the ledger may
err on the safe side only.
"""

import gc
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from scheduler.errors import NotFound, SchedulerError
from scheduler.records import Worker
from scheduler.states import Stage
from workers.attempt import Attempt
from workers.devices import ProbeError
from workers.guard import UNET
from workers.meter import Meter
from workers.tracebacks import cleared

if TYPE_CHECKING:
    from workers.pipelines.i2vgen_xl import I2VGenXL

log = structlog.get_logger()


class Hold:
    """The memory side of one worker process; used by the thread that computes, but for `worker` and `held_bytes`.

    `register` tells the store what the worker is now. `leak_limit_bytes` is how much more than at first may stay behind
    between jobs.
    """

    def __init__(
        self,
        model: "I2VGenXL",
        meter: Meter,
        worker: Worker,
        register: Callable[[Worker], None],
        *,
        leak_limit_bytes: int,
    ) -> None:
        self.worker = worker
        self._model = model
        self._meter = meter
        self._register = register
        self._leak_limit_bytes = leak_limit_bytes
        self._first_bytes: dict[str | None, int] = {}  # what each plan held when it was first loaded
        self._told = True
        self._kind: Hashable = None  # of the last job

    def declare(self) -> None:
        """Measure what is held between jobs, and say so where it has changed."""
        plan = self._model.execution.plan
        try:
            resident_bytes = self._meter.resident_bytes()
        except ProbeError as error:  # then it stays what it was; the ledger learns it with the next change
            log.warning("cannot tell what this worker holds", error=str(error))
            return
        self._first_bytes.setdefault(plan, resident_bytes)
        now = replace(self.worker, plan=plan, resident_bytes=resident_bytes, ready=True)
        if now.plan == self.worker.plan and self.worker.ready and self._told:
            return  # a few pages more or less are no news
        self.worker = now
        self._tell()

    def take(self, attempt: Attempt) -> None:
        """Make the model ready for an attempt's plan; raises what loading raises."""
        from workers.pipelines import safety

        plan = attempt.lease.plan
        if attempt.kind != self._kind or self._exceeds(self.worker.resident_bytes + attempt.lease.reserved_bytes):
            # What an earlier job left in the allocator is not promised to this one, nor is it this one's peak.
            self._meter.trim()
        self._kind = attempt.kind
        if plan != self._model.execution.plan:
            attempt.enter(Stage.LOADING)
            started = time.monotonic()
            self._model.use(plan)
            self._meter.trim()
            log.info("plan loaded", plan=plan, seconds=round(time.monotonic() - started, 3))
            if self._exceeds(self.worker.resident_bytes):
                self.declare()
        safety.set_unet(self._model, safe=UNET in attempt.safer)
        self._meter.reset_peak()

    def measure(self) -> tuple[int | None, int | None]:
        """Return the process's peak since `take`, and what of it came with the job, in bytes; None where unknown."""
        peak = self._meter.peak_bytes()
        return peak, None if peak is None else max(0, peak - self.worker.resident_bytes)

    def held_bytes(self) -> int:
        """Return what the process holds beyond what the ledger counts as its own; negative under a leaner plan."""
        return self._meter.held_bytes() - self.worker.resident_bytes

    def free(self) -> None:
        """Give back what a failed job left."""
        gc.collect()
        self._meter.trim()

    def rest(self) -> None:
        """Nothing is running: give back what is not used, and say what is held, should that be less than before."""
        self.free()
        self.declare()

    def unload(self) -> None:
        """Give the weights back too."""
        self._model.unload()
        self.free()
        log.info("weights unloaded: nothing to do for a while")
        self.declare()

    @property
    def loaded(self) -> bool:
        """Whether the weights are on the device."""
        return self._model.execution.plan is not None

    def worn(self) -> str | None:
        """Say why a new process should take over: more stays behind between jobs than may; None while all is well."""
        at_first = self._first_bytes.get(self._model.execution.plan)
        try:
            if at_first is None or self._meter.resident_bytes() - at_first <= self._leak_limit_bytes:
                return None
            self.free()
            grown = self._meter.resident_bytes() - at_first
        except ProbeError:  # what cannot be told now can be at the next job
            return None
        if grown <= self._leak_limit_bytes:
            return None
        allowed = self._leak_limit_bytes >> 20
        return f"{grown >> 20} MiB more than at first stay behind between jobs, and {allowed} MiB may"

    def _exceeds(self, size_bytes: int) -> bool:
        """Whether the process holds more than so much, or cannot tell."""
        try:
            return self._meter.held_bytes() > size_bytes
        except ProbeError:
            return True

    def _tell(self) -> None:
        try:
            self._register(self.worker)
            self._told = True
        except (SchedulerError, NotFound) as error:
            self._told = False  # said again with the next change, or by the heartbeat
            log.warning("cannot tell the store what this worker holds", error=str(error))
            cleared(error)
