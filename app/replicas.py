"""Serving by several processes: they share the listening socket, and nothing else but the store.

Python computes on one core at a time; each process adds one. The kernel gives a connection to one of those that wait.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from app import serve
from app.settings import FrontEndSettings
from app.supervised import Supervised
from scheduler import logs
from scheduler.errors import SchedulerError
from scheduler.processes import announce_ready, set_by_signals, watch_parent

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.05
_STOP_SECONDS = 5.0  # for a process, beside what it gives its requests
_FAILED = 1


def run(settings: FrontEndSettings, sock: socket.socket, *, on_ready: Callable[[], None] | None = None) -> None:
    """Do what `serve.run` does, in this process, or in `settings.processes` others if those are more than one.

    One that ends is started again. When all are to end, each has the time for its requests that a single one would.
    """
    if settings.processes == 1:
        serve.run(settings, sock, on_ready=on_ready)
        return
    stopping = threading.Event()
    processes: list[Supervised] = []
    with set_by_signals(stopping):
        try:
            processes += (_started(settings, sock, number, stopping) for number in range(settings.processes))
            while not all(one.ready for one in processes) and not stopping.wait(_LOOK_SECONDS):
                pass
            if on_ready is not None and not stopping.is_set():
                on_ready()
            stopping.wait()
        finally:
            stopping.set()
            sock.close()  # or those who call now would wait for nobody
            for one in processes:
                one.terminate()
            until = time.monotonic() + settings.request_grace_seconds + _STOP_SECONDS
            for one in processes:
                one.finish(max(0.0, until - time.monotonic()))


def _started(settings: FrontEndSettings, sock: socket.socket, number: int, stopping: threading.Event) -> Supervised:
    return Supervised(
        f"front end {number}",
        [sys.executable, "-m", "app.replicas", str(sock.fileno())],
        settings.environment() | {"REELQ_PROCESSES": "1"},
        stopping,
        pass_fds=(sock.fileno(),),
    )


def serve_as_one(descriptor: int, **given: Any) -> int:
    """Be one of the processes: serve on the socket that was inherited; returns the exit code."""
    watch_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    settings = FrontEndSettings(**given)
    logs.configure(settings.log_format)
    try:
        with socket.socket(fileno=descriptor) as sock:
            serve.run(settings, sock, on_ready=announce_ready)
    except SchedulerError as error:
        log.error("cannot serve", error=str(error))  # noqa: TRY400  one line, as at the start of a single process
        return _FAILED
    return 0


if __name__ == "__main__":
    sys.exit(serve_as_one(int(sys.argv[1])))
