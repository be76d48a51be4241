"""`reelq up`: the front end, and beside it the supervisor of this machine's GPUs, as one command."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import structlog

from app import serve
from app.settings import FrontEndSettings
from scheduler.processes import EXIT_CONFIG, Backoff, Child

log = structlog.get_logger()

_READY_SECONDS = 10.0  # how long the front end waits for the GPUs to register before it opens
_STOP_SECONDS = 30.0  # for the supervisor, beside what it gives its workers


def up(settings: FrontEndSettings, *, model: str | None, device: str | None) -> int:
    """Serve until SIGTERM or SIGINT, then end the supervisor and its workers; returns the exit code.

    Raises `StoreError` and `CannotListen` before anything was started.
    """
    socket = serve.listen(settings)  # a store that cannot be used is one line, from one process
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _setter(stopping))
    # Everything else reaches the supervisor as it reached this process: by environment and file.
    where = {"REELQ_DATA_DIR": str(settings.data_dir)}
    supervisor = Supervised(_command(model, device), where, stopping)
    try:
        supervisor.start()

        def on_ready() -> None:
            host, port = socket.getsockname()[:2]
            log.info(
                "serving",
                url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}",
                data_dir=str(settings.data_dir),
            )
            if stopping.is_set():  # a signal came before the server could hear it
                os.kill(os.getpid(), signal.SIGTERM)

        if not stopping.is_set():  # the supervisor may have found that it can never work
            serve.run(settings, socket, on_ready=on_ready)
    finally:
        stopping.set()
        supervisor.finish(settings.shutdown_seconds + _STOP_SECONDS)
    return supervisor.exit_code


class Supervised:
    """The supervisor process: restarted when it dies; when its settings can never work, the whole command ends."""

    def __init__(self, command: list[str], environment: dict[str, str], stopping: threading.Event) -> None:
        self.exit_code = 0
        self._command = command
        self._environment = environment
        self._stopping = stopping
        self._child = Child(command, environment)
        self._watcher = threading.Thread(target=self._watch, name="supervisor-watch", daemon=True)

    def start(self) -> None:
        """Wait a while for the GPUs to register, so that the first request finds them."""
        self._watcher.start()
        waited = 0.0
        while waited < _READY_SECONDS and not self._stopping.is_set() and not self._child.ready.wait(0.05):
            waited += 0.05

    def finish(self, grace_seconds: float) -> None:
        """End the supervisor, which ends its workers."""
        self._child.terminate()
        self._watcher.join(grace_seconds)
        self._child.finish(0.0)

    def _watch(self) -> None:
        backoff = Backoff()
        while True:
            code = self._child.wait()
            if self._stopping.is_set():
                return
            if code == EXIT_CONFIG:
                self.exit_code = code
                self._stopping.set()
                os.kill(os.getpid(), signal.SIGTERM)  # ends the front end as an operator would
                return
            if self._child.ready.is_set():
                backoff.succeeded()
            wait_seconds = backoff.failed()
            log.error("supervisor ended, starting it again", exit_code=code, wait_seconds=wait_seconds)
            self._child.close()
            if self._stopping.wait(wait_seconds):
                return
            self._child = Child(self._command, self._environment)
            if self._stopping.is_set():
                self._child.terminate()  # `finish` may have met the one before


def _command(model: str | None, device: str | None) -> list[str]:
    flags = [*(("--model", model) if model else ()), *(("--device", device) if device else ())]
    return [sys.executable, "-m", "workers", *flags]


def _setter(event: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        event.set()

    return handle
