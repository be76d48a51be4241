"""Child processes that end with their parent, and parents that notice what their children do.

The parent holds the write end of each child's stdin, the lifeline: when the parent ends in any way, the kernel closes
it, and the child reads end-of-file. A child says it is up with one line on its stdout. Children run in sessions of
their own, so that Ctrl-C reaches only the parent, which ends them in order.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: starting again would fail the same way
_LIFELINE = "REELQ_LIFELINE"
_READY = b"ready\n"


class Child:
    """A running child process; `environment` is added to this process's own, `pass_fds` are descriptors to inherit."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, pass_fds: Sequence[int] = ()) -> None:
        self.ready = threading.Event()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {**environment, _LIFELINE: "1"},
            start_new_session=True,
            pass_fds=pass_fds,
        )
        if self._process.stdout is not None:
            descriptor = os.dup(self._process.stdout.fileno())  # `close` may run while the thread reads
            threading.Thread(target=self._listen, args=(descriptor,), name="child-ready", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout_seconds: float | None = None) -> int | None:
        """Wait for its end; returns the exit code, or None after the timeout."""
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._process.terminate()

    def finish(self, grace_seconds: float) -> int:
        """Wait for the end that was asked for, and kill it after `grace_seconds`; returns the exit code."""
        code = self.wait(grace_seconds)
        if code is None:
            self._process.kill()
            code = self._process.wait()
        self.close()
        return code

    def close(self) -> None:
        """Let go of the pipes of a child that has ended."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _listen(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as stdout:
            for line in stdout:
                if line == _READY:
                    self.ready.set()


def watch_parent(on_gone: Callable[[], None]) -> None:
    """Call `on_gone` in a thread when the parent ends; does nothing in a process that `Child` did not start."""
    if os.environ.pop(_LIFELINE, None) is None:
        return

    def watch() -> None:
        while os.read(0, 256):
            pass
        on_gone()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


@contextmanager
def set_by_signals(event: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set `event` while the block lasts; for the main thread."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: event.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def announce_ready() -> None:
    """Tell the parent, if there is one that listens, that this process is up."""
    try:
        sys.stdout.buffer.write(_READY)
        sys.stdout.buffer.flush()
    except (BrokenPipeError, ValueError):
        return  # the parent is gone; the lifeline deals with that


@dataclass(slots=True)
class Backoff:
    """Waits between restarts: doubling from `base_seconds` to `cap_seconds`, reset by a run that lasted."""

    base_seconds: float = 0.5
    cap_seconds: float = 30.0
    failures: int = 0

    def failed(self) -> float:
        """Count a failure and return how long to wait before the next start."""
        self.failures += 1
        doublings = min(self.failures - 1, 60)  # a child may fail for days, and 2.0 ** 1024 is an OverflowError
        return min(self.cap_seconds, self.base_seconds * 2.0**doublings)

    def succeeded(self) -> None:
        """Forget past failures."""
        self.failures = 0
