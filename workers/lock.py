"""A lock file: whoever holds it is alone, and a process that ends in any way lets go."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

log = structlog.get_logger()

_LOOK_SECONDS = 0.1


@contextmanager
def alone(path: Path, stopping: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold the lock at `path`, waiting for the one who has it; gives up, without the lock, once `stopping` says so."""
    with path.open("a") as file:
        waiting = False
        while not stopping():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    log.warning("another process holds the lock: waiting for it to end", lock=str(path))
                waiting = True
            time.sleep(_LOOK_SECONDS)  # not on an event: a signal handler would set it in this thread
        yield
