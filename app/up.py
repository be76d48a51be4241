"""`reelq up`: the front end, and beside it the supervisor of this machine's GPUs, as one command."""

import os
import signal
import sys
import threading

import structlog

from app import replicas, serve
from app.settings import FrontEndSettings
from app.supervised import Supervised
from scheduler.processes import set_by_signals

log = structlog.get_logger()

_READY_SECONDS = 10.0  # how long the front end waits for the GPUs to register before it opens
_STOP_SECONDS = 30.0  # for the supervisor, beside what it gives its workers


def up(settings: FrontEndSettings, *, model: str | None, device: str | None) -> int:
    """Serve until SIGTERM or SIGINT, then end the supervisor and its workers; returns the exit code.

    Raises `StoreError` and `CannotListen` before anything was started.
    """
    socket = serve.listen(settings)  # a store that cannot be used is one line, from one process
    address = socket.getsockname()[:2]
    stopping = threading.Event()
    with set_by_signals(stopping):
        # Everything else reaches the supervisor as it reached this process: by environment and file.
        where = {"REELQ_DATA_DIR": str(settings.data_dir)}
        supervisor = Supervised("supervisor", _command(model, device), where, stopping, on_unusable=_end_front_end)
        try:
            supervisor.wait_until_ready(_READY_SECONDS)  # so that the first request finds the GPUs

            def on_ready() -> None:
                host, port = address
                log.info(
                    "serving",
                    url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}",
                    data_dir=str(settings.data_dir),
                )
                if stopping.is_set():  # a signal came before the server could hear it
                    _end_front_end()

            if not stopping.is_set():  # the supervisor may have found that it can never work
                replicas.run(settings, socket, on_ready=on_ready)
        finally:
            stopping.set()
            supervisor.finish(settings.shutdown_seconds + _STOP_SECONDS)
    return supervisor.exit_code


def _end_front_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)  # as an operator would


def _command(model: str | None, device: str | None) -> list[str]:
    flags = [*(("--model", model) if model else ()), *(("--device", device) if device else ())]
    return [sys.executable, "-m", "workers", *flags]
