"""Wake-ups between the processes of one machine: a hint that something changed. Polling stays the truth.

Each listener binds a Unix datagram socket in a private folder; `notify` sends the topic to all of them. A datagram
that is lost, or a listener on another machine, only costs the next poll's interval.
"""

import errno
import os
import secrets
import select
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from scheduler.errors import StoreUnreachable

DISPATCH = "dispatch"  # the channel workers and supervisors listen on
CHANGES = "changes"  # the channel of those who watch jobs
JOBS_WAITING = "jobs-waiting"  # a job may be claimable; a GPU's state may have changed
_JOB = "job:"
_MAX_DATAGRAM = 256


def job_topic(job_id: str) -> str:
    """Return the topic of one job's changes."""
    return _JOB + job_id


def job_of(topic: str) -> str | None:
    """Return the job a topic is about, or None."""
    return topic.removeprefix(_JOB) if topic.startswith(_JOB) else None


class Wakeup:
    """The meeting point of all processes that share one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = _private_folder(data_dir / "run")
        self._handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)

    def notify(self, topic: str) -> None:
        """Send `topic` to every listener of its channel; never blocks and never fails the caller."""
        channel = DISPATCH if topic == JOBS_WAITING else CHANGES
        for path in self._folder.glob(f"{channel}-*.sock"):
            try:
                self._sender.sendto(topic.encode(), self._address(path))
            except OSError as error:
                if error.errno == errno.ECONNREFUSED and not psutil.pid_exists(_maker(path)):
                    path.unlink(missing_ok=True)  # its process was killed
                # Otherwise its buffer is full: it has wake-ups enough.

    def listen(self, channel: str) -> "Listener":
        """Return a listener that hears every `notify` on `channel` from now on."""
        path = self._folder / f"{channel}-{os.getpid()}-{secrets.token_hex(4)}.sock"
        return Listener(path, self._address(path))

    def close(self) -> None:
        """Release the sending socket and the folder."""
        self._sender.close()
        os.close(self._handle)

    def _address(self, path: Path) -> str:
        """A socket address holds 107 bytes; through the open folder, a path of any length fits (Linux)."""
        return f"/proc/self/fd/{self._handle}/{path.name}"


class Listener:
    """Hears topics; close it when done. `address` is `path`, short enough to bind."""

    def __init__(self, path: Path, address: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            raise StoreUnreachable(f"cannot listen at {path}: {error.strerror}") from error

    def wait(self, timeout_seconds: float) -> set[str]:
        """Return the topics heard, waiting up to `timeout_seconds` for the first; empty on timeout."""
        waiting = select.poll()  # select() refuses a descriptor above 1023, which a busy front end reaches
        waiting.register(self._socket, select.POLLIN)
        waiting.poll(max(0.0, timeout_seconds) * 1000)
        topics = set()
        while True:
            try:
                topics.add(self._socket.recv(_MAX_DATAGRAM).decode(errors="replace"))
            except BlockingIOError:
                return topics

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _maker(path: Path) -> int:
    """The process that made a socket `channel-pid-random.sock`."""
    return int(path.name.split("-")[-2])


def _private_folder(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise StoreUnreachable(f"cannot use the folder {folder}: {error.strerror}") from error
    if owner != os.getuid():
        raise StoreUnreachable(f"{folder} belongs to another user")
    return folder
