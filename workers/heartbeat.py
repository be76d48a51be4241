"""The heartbeat: a thread that keeps the worker and its lease alive, whatever the computing thread is doing."""

import threading
from collections.abc import Callable

import structlog

from scheduler.errors import LeaseLost, NotFound, StoreError, Unavailable
from scheduler.fleet import Fleet
from scheduler.leases import Leases
from scheduler.records import Lease, Progress, Worker
from scheduler.states import Directive
from workers.control import Control

log = structlog.get_logger()

_REPORT_SECONDS = 0.25  # how soon progress shows, and a cancel or a drain is seen


class Heartbeat:
    """Reports progress at most four times a second, a sign of life in between, and listens for orders all the time.

    It goes on through shutdown, until `close`. The database being away is logged and tried again.
    """

    def __init__(self, worker: Worker, fleet: Fleet, leases: Leases, interval_seconds: float) -> None:
        self._worker = worker
        self._fleet = fleet
        self._leases = leases
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()  # held while one report is on its way, so that `end` waits for it
        self._running: tuple[Lease, Control] | None = None
        self._progress: Progress | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin beating."""
        self._thread.start()

    def became(self, worker: Worker) -> None:
        """Note what the worker is now, should it have to register again."""
        with self._lock:  # what it was must not be written after what it is
            self._worker = worker

    def begin(self, lease: Lease, control: Control) -> None:
        """Keep `lease` alive from now on; `control` hears of a cancel, a drain or a lost lease."""
        with self._lock:
            self._running, self._progress = (lease, control), None

    def progress(self, progress: Progress) -> None:
        """Note progress; it is sent with the next report. Costs the computing thread nothing."""
        self._progress = progress

    def end(self) -> None:
        """Stop reporting for the lease; when this returns, no report is under way."""
        with self._lock:
            self._running = None

    def close(self) -> None:
        """Stop beating."""
        self._closed.set()
        self._thread.join()

    def _beat(self) -> None:
        quiet_seconds = 0.0
        sent: Progress | None = None
        while not self._closed.wait(_REPORT_SECONDS):
            quiet_seconds += _REPORT_SECONDS
            try:
                if self._progress is sent and quiet_seconds < self._interval_seconds:
                    self._listen()
                else:
                    sent, quiet_seconds = self._report(), 0.0
            except (StoreError, Unavailable, NotFound) as error:
                log.warning("heartbeat not delivered, trying again", error=str(error))
            except Exception:  # without this thread the worker would be idle for ever, and not know it
                log.exception("heartbeat failed, trying again")

    def _listen(self) -> None:
        """Only read: an order must reach the step that is running, however long until the next report."""
        with self._lock:
            if self._running is not None:
                self._obey(self._leases.directive, *self._running)

    def _report(self) -> Progress | None:
        """Report where the running attempt is, and return that."""
        with self._lock:
            progress = self._progress  # read under the lock: it belongs to the lease that is running now
            if self._running is None or progress is None:
                if not self._fleet.touch_worker(self._worker.id):
                    self._fleet.register_worker(self._worker)  # given up for silent, but here we are
                return progress
            self._obey(lambda lease: self._leases.report(lease, progress), *self._running)
            return progress

    def _obey(self, ask: Callable[[Lease], Directive], lease: Lease, control: Control) -> None:
        try:
            directive = ask(lease)
            if directive is Directive.CANCEL:
                control.cancel()
            elif directive is Directive.RELEASE:
                control.release()
        except LeaseLost:
            log.warning("lease lost", job_id=lease.job_id, lease=lease.fence)
            control.lose()
            self._running = None
