"""Whose turn it is to write an SQLite database, among the threads of this process and all processes of this machine.

SQLite has one writer at a time, and lets the others sleep for up to 100 ms between two looks. Here they look about once
a millisecond, and threads of one process wait for each other without looking at all. The turn is a lock on a file of
its own, because closing any other handle on the database's file would drop the locks that SQLite holds on it.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scheduler.errors import StoreUnreachable

_SHORTEST_SECONDS = 0.0001
_LONGEST_SECONDS = 0.001


class Turn:
    """The turn of one database, whose file is at `path`; it is never waited for longer than `timeout_seconds`."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        self._database = path
        self._database_id: tuple[int, int] | None = None
        self._path = path.with_name(f"{path.name}-turn")
        self._timeout_seconds = timeout_seconds
        self._threads = threading.Lock()
        self._file: int | None = None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have the turn while the block lasts; raises `StoreUnreachable` when nobody gives it up in time."""
        deadline = time.monotonic() + self._timeout_seconds
        if not self._threads.acquire(timeout=self._timeout_seconds):
            raise _held()
        try:
            file = self._lock(deadline)
            try:
                self._check_in_place()
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def _check_in_place(self) -> None:
        """An open file outlives its name: what is written to it once it is gone would be lost with the process."""
        try:
            found = self._database.stat()
        except OSError as error:
            if self._database_id is None:  # the first write makes it
                return
            raise StoreUnreachable(f"the database cannot be used: {self._database}: {error.strerror}") from error
        if self._database_id is None:
            self._database_id = found.st_dev, found.st_ino
        elif self._database_id != (found.st_dev, found.st_ino):
            raise StoreUnreachable(f"the database cannot be used: {self._database} has been replaced; start again")

    def close(self) -> None:
        """Let go of the file."""
        with self._threads:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _lock(self, deadline: float) -> int:
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise StoreUnreachable(f"the database cannot be used: {self._path}: {error.strerror}") from error
        pause_seconds = _SHORTEST_SECONDS
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _held() from None
            else:
                return self._file
            time.sleep(pause_seconds)
            pause_seconds = min(_LONGEST_SECONDS, 2 * pause_seconds)


def _held() -> StoreUnreachable:
    return StoreUnreachable("the database cannot be used: somebody else holds its write lock")
