"""Remembering what is costly to read, so that reading it never takes more than a small share of the time."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
_COST_FACTOR = 50  # a value that took a second to read is used for 50


class _Entry(Generic[Value]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: tuple[Value, ...] = ()  # one, or none before the first
        self.stale_at = 0.0
        self.took_seconds = float("inf")


class Remembered(Generic[Key, Value]):
    """One value a key. Thread-safe; at any time at most one thread reads the value of a key.

    A value is used for at least `least_seconds`, and for 50 times what reading it took. Then the next caller reads it
    anew, and until that is done the others get the old one; only before the first is there anything to wait for.
    """

    def __init__(self, least_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._least_seconds = least_seconds
        self._clock = clock
        self._entries: dict[Key, _Entry[Value]] = {}

    def get(self, key: Key, read: Callable[[], Value]) -> Value:
        """Return the value of `key`, read by `read` if need be; raises what `read` raises, and remembers nothing."""
        entry = self._entries.setdefault(key, _Entry())
        if self._is_stale(entry) and entry.lock.acquire(blocking=not entry.values):
            try:
                if self._is_stale(entry):  # or the thread that was waited for has just read it
                    began = self._clock()
                    entry.values = (read(),)
                    ended = self._clock()
                    entry.took_seconds = ended - began
                    entry.stale_at = ended + max(self._least_seconds, _COST_FACTOR * entry.took_seconds)
            finally:
                entry.lock.release()
        return entry.values[0]

    def is_quick(self, key: Key, seconds: float) -> bool:
        """Whether `get` should answer within so many seconds: there is a value, or reading it took no longer before."""
        entry = self._entries.setdefault(key, _Entry())
        return entry.took_seconds <= seconds or not self._is_stale(entry)

    def _is_stale(self, entry: _Entry[Value]) -> bool:
        return not entry.values or self._clock() >= entry.stale_at
