"""A child process that is kept running: when it ends it is started again, after a while that grows."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from scheduler.processes import EXIT_CONFIG, Backoff, Child

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.05


class Supervised:
    """Keeps the child called `name` running until `stopping`, which is also set when it can never work.

    A child ends so by the exit code `EXIT_CONFIG`; `on_unusable` is called then, in a thread. It inherits the
    descriptors `pass_fds`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        stopping: threading.Event,
        *,
        on_unusable: Callable[[], None] = lambda: None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.exit_code = 0  # what this process should exit with, as far as this child is concerned
        self._name = name
        self._command = command
        self._environment = environment
        self._pass_fds = pass_fds
        self._stopping = stopping
        self._on_unusable = on_unusable
        self._child = self._start()
        self._watcher = threading.Thread(target=self._watch, name=f"{name}-watch", daemon=True)
        self._watcher.start()

    @property
    def ready(self) -> bool:
        """Whether the child that runs now has said that it is up."""
        return self._child.ready.is_set()

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until it is up, but not for longer, nor once `stopping`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._stopping.is_set() and not self._child.ready.wait(_LOOK_SECONDS):
            pass

    def terminate(self) -> None:
        """Ask it to end; `stopping` must be set."""
        self._child.terminate()

    def finish(self, grace_seconds: float) -> None:
        """End it, and kill it if that takes longer; `stopping` must be set."""
        self._child.terminate()
        self._watcher.join(grace_seconds)
        self._child.finish(0.0)

    def _start(self) -> Child:
        return Child(self._command, self._environment, pass_fds=self._pass_fds)

    def _watch(self) -> None:
        backoff = Backoff()
        while True:
            code = self._child.wait()
            if self._stopping.is_set():
                return
            if code == EXIT_CONFIG:
                self.exit_code = code
                self._stopping.set()
                self._on_unusable()
                return
            if self._child.ready.is_set():
                backoff.succeeded()
            wait_seconds = backoff.failed()
            log.error(f"{self._name} ended, starting it again", exit_code=code, wait_seconds=wait_seconds)
            self._child.close()
            if self._stopping.wait(wait_seconds):
                return
            self._child = self._start()
            if self._stopping.is_set():
                self._child.terminate()  # `finish` may have met the one before
