"""What may interrupt a running attempt; looked at between two steps, and only there."""

import threading
from enum import StrEnum


class Cause(StrEnum):
    """Why an attempt is to stop."""

    LEASE_LOST = "lease_lost"  # another attempt owns the job: publish nothing
    CANCEL = "cancel"
    RELEASE = "released"  # a drain or a preemption asks for the job back
    SHUTDOWN = "shutdown"  # likewise, because the process ends


class Interrupted(Exception):
    """The attempt must stop here; `cause` says why."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.value)
        self.cause = cause


class Control:
    """One attempt's switches: set from the heartbeat and signal threads, checked by the one that computes."""

    def __init__(self, shutdown: threading.Event) -> None:
        self._shutdown = shutdown
        self._cancel = threading.Event()
        self._release = threading.Event()
        self._lost = threading.Event()

    def cancel(self) -> None:
        """Note that the caller cancelled the job."""
        self._cancel.set()

    def release(self) -> None:
        """Note that the job is to go back to the queue."""
        self._release.set()

    def lose(self) -> None:
        """Note that the lease belongs to another attempt now."""
        self._lost.set()

    def cause(self) -> Cause | None:
        """Return the gravest cause to stop, if there is one."""
        if self._lost.is_set():
            return Cause.LEASE_LOST
        if self._cancel.is_set():
            return Cause.CANCEL
        if self._release.is_set():
            return Cause.RELEASE
        return Cause.SHUTDOWN if self._shutdown.is_set() else None

    def check(self) -> None:
        """Raise `Interrupted` with the gravest cause, if there is one."""
        cause = self.cause()
        if cause is not None:
            raise Interrupted(cause)

    def check_wanted(self) -> None:
        """Raise `Interrupted` only where the result is of no use any more: for a video that needs but publishing."""
        cause = self.cause()
        if cause in (Cause.LEASE_LOST, Cause.CANCEL):
            raise Interrupted(cause)
