"""Calling a store that may be away: a finished video must not be lost to one that restarts."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from scheduler.errors import StorageFull, StoreUnreachable

log = structlog.get_logger()

_T = TypeVar("_T")
_INSIST_SECONDS = 60.0  # longer than a database takes to restart


def insist(
    call: Callable[[], _T],
    *,
    on: type[Exception] | tuple[type[Exception], ...] = (StoreUnreachable, StorageFull),
    check: Callable[[], None] = lambda: None,
) -> _T:
    """Call the store until it answers, for a minute at most.

    `on` is what it goes on after; `check` may raise between two calls.
    """
    deadline = time.monotonic() + _INSIST_SECONDS
    wait_seconds = 0.1
    while True:
        try:
            return call()
        except on as error:
            if time.monotonic() + wait_seconds > deadline:
                raise
            log.warning("the store is away, trying again", error=str(error), wait_seconds=wait_seconds)
        time.sleep(wait_seconds)
        check()
        wait_seconds = min(0.5, wait_seconds * 2)  # to be there before the reaper is
