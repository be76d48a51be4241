"""The heartbeat: a thread that keeps the worker and its leases alive, whatever the computing thread is doing."""

import threading
from collections.abc import Callable
from functools import partial

import structlog

from scheduler import logs
from scheduler.errors import LeaseLost, NotFound, StoreError, Unavailable
from scheduler.fleet import Fleet
from scheduler.leases import Leases
from scheduler.records import Checkpoint, Lease, Progress, Worker
from scheduler.states import Directive
from workers.control import Control

log = structlog.get_logger()

_REPORT_SECONDS = 0.25  # how soon progress shows, and a cancel or a drain is seen


class Pulse:
    """One lease's line to the store: what is to be told with the next report, and what was told last.

    Progress and checkpoints are noted, and cost the computing thread nothing; `named` is the last checkpoint that the
    store knows.
    """

    def __init__(
        self, leases: Leases, lease: Lease, control: Control, progress: Progress, *, interval_seconds: float
    ) -> None:
        self.lease = lease
        self.named = lease.checkpoint
        self._leases = leases
        self._control = control
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()  # held while one report is on its way, so that `end` waits for it
        self._progress = progress
        self._checkpoint = lease.checkpoint
        self._told: Progress | None = None
        self._ending = False
        self._quiet_seconds = 0.0
        self._ended = False

    def progress(self, progress: Progress) -> None:
        """Note how far the attempt is."""
        self._progress = progress

    def saved(self, checkpoint: Checkpoint) -> None:
        """Note that a checkpoint is stored."""
        self._checkpoint = checkpoint

    def ending(self) -> None:
        """Note that the attempt is being ended: a lease that is then gone is no surprise."""
        self._ending = True

    def end(self) -> None:
        """Stop reporting; when this returns, no report is under way."""
        with self._lock:
            self._ended = True

    def beat(self, elapsed_seconds: float) -> bool:
        """Report what is new, or that the attempt lives; else only listen. Returns whether a report was made."""
        with self._lock:
            if self._ended:
                return False
            self._quiet_seconds += elapsed_seconds
            progress, checkpoint = self._progress, self._checkpoint
            news = progress is not self._told or checkpoint is not self.named
            if not news and self._quiet_seconds < self._interval_seconds:
                self._obey(lambda: self._leases.directive(self.lease))
                return False
            new_checkpoint = checkpoint if checkpoint is not self.named else None
            if self._obey(lambda: self._leases.report(self.lease, progress, new_checkpoint)):
                self._told, self.named, self._quiet_seconds = progress, checkpoint, 0.0
            return True

    def _obey(self, ask: Callable[[], Directive]) -> bool:
        """Do what the store says; False when the lease is lost, and what was told has not been heard."""
        try:
            directive = ask()
        except LeaseLost:
            if not self._ending:
                log.warning("lease lost")
            self._control.lose()
            self._ended = True
            return False
        if directive is Directive.CANCEL:
            self._control.cancel()
        elif directive is Directive.RELEASE:
            self._control.release()
        return True


class Heartbeat:
    """Reports each lease's progress at most four times a second, a sign of life in between, and listens all the time.

    It goes on through shutdown, until `close`. The database being away is logged and tried again.
    """

    def __init__(self, worker: Worker, fleet: Fleet, leases: Leases, interval_seconds: float) -> None:
        self._worker = worker
        self._fleet = fleet
        self._leases = leases
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()
        self._pulses: list[Pulse] = []
        self._quiet_seconds = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin beating."""
        self._thread.start()

    def became(self, worker: Worker) -> None:
        """Note what the worker is now, should it have to register again."""
        with self._lock:  # what it was must not be written after what it is
            self._worker = worker

    def begin(self, lease: Lease, control: Control, progress: Progress) -> Pulse:
        """Keep `lease` alive from now on; `control` hears of a cancel, a drain or a lost lease."""
        pulse = Pulse(self._leases, lease, control, progress, interval_seconds=self._interval_seconds)
        with self._lock:
            self._pulses.append(pulse)
        return pulse

    def end(self, pulse: Pulse) -> None:
        """Stop reporting for a lease; when this returns, no report of it is under way."""
        pulse.end()
        with self._lock:
            self._pulses = [each for each in self._pulses if each is not pulse]

    def close(self) -> None:
        """Stop beating."""
        self._closed.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._closed.wait(_REPORT_SECONDS):
            with self._lock:
                pulses = list(self._pulses)
            self._quiet_seconds += _REPORT_SECONDS
            for pulse in pulses:
                with logs.about(pulse.lease):
                    self._guarded(partial(self._tell, pulse))
            if self._quiet_seconds >= self._interval_seconds:
                self._guarded(self._touch)

    def _tell(self, pulse: Pulse) -> None:
        if pulse.beat(_REPORT_SECONDS):
            self._quiet_seconds = 0.0  # a report is the worker's sign of life too

    def _touch(self) -> None:
        with self._lock:
            if not self._fleet.touch_worker(self._worker.id):
                self._fleet.register_worker(self._worker)  # given up for silent, but here we are
        self._quiet_seconds = 0.0

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (StoreError, Unavailable, NotFound) as error:
            log.warning("heartbeat not delivered, trying again", error=str(error))
        except Exception:  # without this thread the worker would be idle for ever, and not know it
            log.exception("heartbeat failed, trying again")
