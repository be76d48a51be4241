"""Maintenance beside the requests: one thread a chore, which runs it again and again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to `run` at start and every `every_seconds`; it returns what it did, falsy when nothing was to do.

    What a `routine` chore did is no news; of the others it is logged as a warning.
    """

    name: str
    run: Callable[[], object]
    every_seconds: float
    routine: bool = False


@contextmanager
def maintaining(*chores: Chore) -> Iterator[None]:
    """Run the chores while the block lasts; a round that fails is logged, and the next one runs."""
    stopping = threading.Event()
    threads = [
        threading.Thread(target=_repeat, args=(chore, stopping), name=chore.name, daemon=True) for chore in chores
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def _repeat(chore: Chore, stopping: threading.Event) -> None:
    while not stopping.is_set():
        try:
            if done := chore.run():
                tell = log.info if chore.routine else log.warning
                tell("maintenance", chore=chore.name, done=str(done))
        except Exception:
            log.exception("a round of maintenance failed", chore=chore.name)
        stopping.wait(chore.every_seconds)
