"""The thread that owns the GPU: one denoising step after another, whoever they belong to, and nothing in between.

Jobs come prepared (`intake`) and leave as frames (`publisher`); what touches the store or a file is done elsewhere. A
pass may be shared: jobs of one shape and plan join between two steps and leave when they are done. The next job is
claimed shortly before the last one ends, so that its first step follows the other's last frame.

While a step runs on the GPU the next is already launched, where that changes nothing: the GPU never waits for Python.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from scheduler import logs
from scheduler.states import Stage
from workers.attempt import Attempt, Ending
from workers.batching import Sharing
from workers.control import Interrupted
from workers.energy import EnergyAccount
from workers.failures import INTERNAL_ERROR, OUT_OF_MEMORY, describe, is_unexpected
from workers.guard import Guard
from workers.hold import Hold
from workers.intake import Broken, Drained, Rejected, Source
from workers.publisher import Publisher
from workers.tracebacks import cleared, told
from workers.wanting import may_share, wanted

if TYPE_CHECKING:
    from workers.pipelines.i2vgen_xl import I2VGenXL, Step

_LOOK_SECONDS = 0.25  # how often an idle engine looks around


class Engine:
    """Runs what its source brings, until it is told to stop, the GPU is drained, or the process is no good any more.

    `synchronous`: a step is done when it returns, as on a CPU; it is then looked at before the next one.
    """

    def __init__(
        self,
        model: "I2VGenXL",
        source: Source,
        publisher: Publisher,
        hold: Hold,
        energy: EnergyAccount,
        guard: Guard,
        *,
        synchronous: bool,
        stopping: Callable[[], bool],
        lookahead_seconds: float,
        batch_jobs: int,
        idle_unload_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._source = source
        self._publisher = publisher
        self._hold = hold
        self._energy = energy
        self._guard = guard
        self._synchronous = synchronous
        self._stopping = stopping
        self._lookahead_seconds = lookahead_seconds
        self._idle_unload_seconds = idle_unload_seconds
        self._clock = clock
        self.sharing = Sharing(batch_jobs)
        self._next: list[Attempt] = []  # prepared; each starts when those before it are done
        self._batch: list[Attempt] = []  # denoising, in one pass
        self._launched: _Launched | None = None
        self._drained = False
        self._worn: str | None = None  # why this process takes no more jobs
        self._spoilt = False  # what the GPU computes for this process may be wrong, if it does at all
        self._idle_since = clock()
        self._worked_until: float | None = None  # when the GPU had last something to do

    def run(self) -> None:
        """Work until there is reason to leave and nothing is open any more."""
        try:
            while self._turn():
                pass
        finally:
            self._give_back()
            for arrival in self._source.close():
                if isinstance(arrival, Rejected):
                    self._publisher.end(arrival.attempt, arrival.ending)
                elif isinstance(arrival, Attempt):
                    self._publisher.end(arrival, Ending())  # claimed at the last moment: released
            self._publisher.finish()

    @property
    def worn(self) -> str | None:
        """Why a new process has to take over, if it has."""
        return self._worn

    def _turn(self) -> bool:
        self._wish()
        busy = bool(self._batch or self._next)
        self._receive(0.0 if busy else _LOOK_SECONDS)
        self._heed()
        if self._batch:
            self._pass()
        elif self._next:
            self._start(self._next.pop(0))
        elif self._leaves():
            return False
        else:
            self._rest()
        return True

    def _leaves(self) -> bool:
        return self._stopping() or self._drained or self._worn is not None

    # What comes in

    def _receive(self, timeout_seconds: float) -> None:
        while (arrival := self._source.take(timeout_seconds)) is not None:
            timeout_seconds = 0.0
            self._drained = isinstance(arrival, Drained)
            if isinstance(arrival, Broken):
                raise arrival.error
            if isinstance(arrival, Rejected):
                self._publisher.end(arrival.attempt, arrival.ending)
            elif isinstance(arrival, Attempt):
                self._next.append(arrival)
                return

    def _wish(self) -> None:
        """Say what could be run beside or after what is running."""
        room = not self._leaves() and not self._next
        self._source.wish(wanted(self._batch, self.sharing, self._lookahead_seconds) if room else None)

    # Control, between two steps

    def _heed(self) -> None:
        """Let those leave that are to stop."""
        if self._spoilt:
            self._give_back()
        for attempt in [*self._batch, *self._next]:
            cause = attempt.control.cause()
            if cause is None:
                continue
            self._settle()
            if attempt in self._batch or attempt in self._next:  # it may have ended with its last step
                self._end(attempt, Ending(cause=cause, snapshot=attempt.snapshot()))

    def _give_back(self) -> None:
        """End all that is open, without waiting for the GPU: each job goes on elsewhere from where it was."""
        self._launched = None
        for attempt in [*self._batch, *self._next]:
            self._end(attempt, Ending(snapshot=attempt.snapshot()))

    def _end(self, attempt: Attempt, ending: Ending) -> None:
        """End an attempt without a video: what it held is free, and the store is told in another thread."""
        for group in (self._batch, self._next):
            if attempt in group:
                group.remove(attempt)
        if attempt.begun:
            attempt.vram_peak_bytes, attempt.working_peak_bytes = self._hold.measure()
        attempt.run = None
        self._energy.turn(self._batch)
        attempt.energy_joules = self._energy.close(attempt)
        self._publisher.end(attempt, ending)

    def _failed(self, attempt: Attempt, error: Exception) -> None:
        """End an attempt with its failure; one that nobody foresaw is the end of a process on a GPU too.

        Memory that ran out beside other jobs might do for this one alone: it goes back to the queue as it was.
        """
        failure = describe(error)
        unexpected = told(error) if is_unexpected(error) and failure.code != OUT_OF_MEMORY else None
        cleared(error)
        if failure.code == INTERNAL_ERROR and not self._synchronous:
            self._spoil()
        snapshot, beside = attempt.snapshot(), [one for one in self._batch if one is not attempt]
        if failure.code == OUT_OF_MEMORY and beside:
            self.sharing.ran_out(beside[0].kind, len(beside) + 1)
            attempt.log.warning("out of memory beside other jobs", jobs=len(beside) + 1, stage=attempt.stage.value)
            self._end(attempt, Ending(snapshot=snapshot))
        else:
            self._end(attempt, Ending(error=failure, stage=attempt.stage, snapshot=snapshot, unexpected=unexpected))
        self._worked_until = self._clock()
        if not self._spoilt:
            self._hold.free()

    def _spoil(self) -> None:
        """Have a new process take over, with a new context: a CUDA error outlives the job that met it."""
        self._spoilt = True
        self._worn = "an unexpected failure on the GPU"

    def _does(self, attempt: Attempt, call: Callable[[], None]) -> bool:
        """Do one thing for an attempt; a failure is its end. Returns whether it went well."""
        with logs.about(attempt.lease):
            try:
                call()
            except Exception as error:  # noqa: BLE001  whatever it is, it is this attempt's
                self._failed(attempt, error)
                return False
        return True

    # Starting and joining

    def _start(self, attempt: Attempt) -> None:
        """Begin a pass of its own."""
        if not attempt.begun:
            self._worn = self._worn or self._hold.worn()
            if self._worn is not None:
                self._end(attempt, Ending())
                return
            idle_since = self._worked_until
            attempt.stopwatch.start(0.0 if idle_since is None else self._clock() - idle_since)
        self._energy.turn([attempt])
        if self._does(attempt, lambda: self._hold.take(attempt)):
            self._enter(attempt)

    def _join(self) -> None:
        """Let the next one in, if it is one that can share the pass."""
        if self._joins():
            self._settle()
        if self._joins():  # still: some may have ended with that step, and another come back
            joining = self._next.pop(0)
            if not joining.begun:
                joining.stopwatch.start(0.0)
            self._enter(joining)

    def _joins(self) -> bool:
        """Tell whether the next one can share the pass."""
        return bool(self._next and self._batch) and not self._spoilt and may_share(self._next[0], self._batch)

    def _enter(self, attempt: Attempt) -> None:
        """Encode, where steps are still to be made, and become part of the batch."""
        run = attempt.must_run
        if not attempt.begun:
            attempt.begun, attempt.done = True, run.index
        if run.index < run.steps and run.conditioning is None:
            attempt.enter(Stage.ENCODING)
            attempt.pulse.progress(attempt.scale.encoding())
            self._energy.turn([attempt])
            if not self._does(attempt, lambda: self._guard.encode(attempt)):
                return
        attempt.enter(Stage.DENOISING)
        attempt.pulse.progress(attempt.scale.denoised(attempt.done))
        self._batch.append(attempt)
        for one in self._batch:
            one.sharing = max(one.sharing, len(self._batch))
        self._energy.turn(self._batch)

    # Denoising

    def _pass(self) -> None:
        """Launch the next step of all, and look at the one before it meanwhile."""
        self._join()
        if not self._batch or any(one.must_run.index >= one.must_run.steps for one in self._batch):
            self._settle()
            return
        together, at = list(self._batch), self._clock()
        try:
            step = self._model.step([attempt.must_run for attempt in together])
        except Exception as error:  # noqa: BLE001  whatever it is, somebody's attempt ends with it
            self._settle()
            if not self._spoilt:
                self._pass_failed([one for one in together if one in self._batch], error)
            return
        before, self._launched = self._launched, _Launched(step, together, at)
        if before is not None:
            self._look_at(before)
        if self._synchronous:
            self._settle()

    def _settle(self) -> None:
        """Wait for what was launched, note what came of it, and decode those that are done."""
        launched, self._launched = self._launched, None
        if launched is not None:
            self._look_at(launched)
        for attempt in [one for one in self._batch if one.done >= one.must_run.steps]:
            if self._spoilt:
                return
            self._batch.remove(attempt)
            with logs.about(attempt.lease):
                self._decode(attempt)
            self._energy.turn(self._batch)

    def _look_at(self, launched: "_Launched") -> None:
        try:
            sound = launched.step.wait()
        except Exception as error:  # noqa: BLE001  what a GPU was given may fail only here
            self._launched = None
            self._spoil()
            self._pass_failed([one for one in launched.attempts if one in self._batch], error)
            return
        now = self._clock()
        seconds = now - max(launched.at, self._worked_until or launched.at)
        self._worked_until = now
        self.sharing.passed(launched.attempts[0].kind, len(launched.attempts), seconds)
        unsound = []
        for attempt, is_sound in zip(launched.attempts, sound, strict=True):
            if attempt in self._batch:
                if is_sound:
                    self._stepped(attempt, seconds)
                else:
                    self._batch.remove(attempt)
                    unsound.append(attempt)
        if unsound:
            self._settle()  # a step that was launched meanwhile would write into what is now taken back
        for attempt in unsound:
            if self._does(attempt, partial(self._guard.rewind, attempt)):
                self._next.insert(0, attempt)  # alone, when the others are done: its numbers are not theirs any more

    def _stepped(self, attempt: Attempt, seconds: float) -> None:
        attempt.done += 1
        attempt.stopwatch.stepped(seconds)
        attempt.pulse.progress(attempt.scale.denoised(attempt.done))
        if attempt.done < attempt.must_run.steps and attempt.keeper.due():
            snapshot = attempt.snapshot()
            if snapshot is not None:
                attempt.keeper.offer(snapshot)

    def _pass_failed(self, together: list[Attempt], error: Exception) -> None:
        """End the attempt whose pass failed; of several it is the newest, and fewer share from now on."""
        if len(together) > 1:
            self.sharing.ran_out(together[0].kind, len(together))
        if together:
            self._failed(together[-1], error)

    # Decoding

    def _decode(self, attempt: Attempt) -> None:
        """Hand the frames to the publisher as they come; the attempt is the publisher's then."""
        attempt.enter(Stage.DECODING)
        attempt.pulse.progress(attempt.scale.decoded(0))
        self._energy.turn([attempt])
        sink = self._publisher.begin(attempt)
        try:
            for count, frame in enumerate(self._guard.decode(attempt), start=1):
                attempt.control.check()
                sink.put(frame)
                attempt.pulse.progress(attempt.scale.decoded(count))
        except Exception as error:  # noqa: BLE001  the attempt ends with it, or tries once more
            if sink.abort():
                self._decode_failed(attempt, error)
            else:  # its encoder failed first, and the publisher has ended it
                self._energy.turn([])
                self._energy.close(attempt)
        else:
            attempt.vram_peak_bytes, attempt.working_peak_bytes = self._hold.measure()
            self._energy.turn([])
            attempt.energy_joules = self._energy.close(attempt)
            sink.end()
        self._worked_until = self._clock()

    def _decode_failed(self, attempt: Attempt, error: Exception) -> None:
        from workers.pipelines.decode import NoPicture

        if isinstance(error, Interrupted):
            self._end(attempt, Ending(cause=error.cause, snapshot=attempt.snapshot()))
        elif not isinstance(error, NoPicture):
            self._failed(attempt, error)
        elif self._does(attempt, lambda: self._guard.again(attempt, error)):
            self._next.insert(0, attempt)

    # Nothing to do

    def _rest(self) -> None:
        """The first time round, give back what is not used; after a while, the weights too."""
        if self._worked_until is not None:
            self._worked_until = None
            self._idle_since = self._clock()
            self._hold.rest()
        idle_seconds = self._clock() - self._idle_since
        if 0 < self._idle_unload_seconds <= idle_seconds and self._hold.loaded:
            self._hold.unload()


@dataclass(frozen=True)
class _Launched:
    """A step that the GPU has been given: for whom, and when."""

    step: "Step"
    attempts: list[Attempt]
    at: float
