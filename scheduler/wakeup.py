"""Wake-ups between processes: a hint that something changed. Polling stays the truth.

Each listener binds a Unix datagram socket in a private folder; `notify` sends the topic to all of them. On PostgreSQL
it also goes to every other machine through the database, where each process hands what arrives to its own listeners. A
wake-up that is lost only costs the next poll's interval.
"""

import errno
import os
import secrets
import select
import socket
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from sqlalchemy.engine import URL

from scheduler.errors import StoreUnreachable
from scheduler.notify import Notifier
from scheduler.outbox import Channel

DISPATCH = "dispatch"  # the channel workers and supervisors listen on
CHANGES = "changes"  # the channel of those who watch jobs
JOBS_WAITING = "jobs-waiting"  # a job may be claimable; a GPU's state may have changed
_WAKE = "wake"  # only for one's own listener
ANY_JOB = "any-job"  # which jobs have changed is not known: look at all
_JOB = "job:"
_BETWEEN_MACHINES = {
    DISPATCH: Channel("reelq_dispatch", anything=JOBS_WAITING, gather_seconds=0.005),
    CHANGES: Channel("reelq_changes", anything=ANY_JOB, gather_seconds=0.02),
}
_MAX_DATAGRAM_BYTES = 8192  # more than a payload of NOTIFY
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def job_topic(job_id: str) -> str:
    """Return the topic of one job's changes."""
    return _JOB + job_id


def job_of(topic: str) -> str | None:
    """Return the job a topic is about, or None."""
    return topic.removeprefix(_JOB) if topic.startswith(_JOB) else None


class Wakeup:
    """The meeting point of all processes that share one data directory and, on PostgreSQL, one database.

    `database` is the URL of the database; None keeps to the data directory.
    """

    def __init__(self, data_dir: Path, database: URL | None = None) -> None:
        self._folder = _private_folder(data_dir / "run")
        self._handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._name = secrets.token_hex(4)
        self._notifier: Notifier | None = None
        if database is not None and database.get_backend_name() == "postgresql":
            self._notifier = Notifier(database, _origin(self._folder), _BETWEEN_MACHINES, self._deliver)

    def notify(self, topic: str) -> None:
        """Send `topic` to every listener of its channel; never blocks and never fails the caller."""
        channel = DISPATCH if topic == JOBS_WAITING else CHANGES
        self._send(topic, (name for name in self._sockets() if name.startswith(f"{channel}-")))
        if self._notifier is not None:
            self._notifier.send(channel, topic)

    def listen(self, channel: str) -> "Listener":
        """Return a listener that hears every `notify` on `channel` from now on.

        Where other machines can be heard it also hears, now and whenever they may have been missed, `JOBS_WAITING` on
        `DISPATCH` and `ANY_JOB` on `CHANGES`.
        """
        path = self._folder / f"{channel}-{os.getpid()}-{self._name}{secrets.token_hex(4)}.sock"
        listener = Listener(path, self._address(path.name))
        if self._notifier is not None:
            self._notifier.listen(channel)
        return listener

    def close(self) -> None:
        """Let what is on its way to other machines leave, then release connection, socket and folder."""
        if self._notifier is not None:
            self._notifier.close()
        self._sender.close()
        os.close(self._handle)

    def _deliver(self, channel: str, topics: Collection[str]) -> None:
        """Hand what came from another machine to this object's own listeners."""
        mine = f"{channel}-{os.getpid()}-{self._name}"
        self._send("\n".join(topics), (name for name in self._sockets() if name.startswith(mine)))

    def _sockets(self) -> list[str]:
        """The names of all listeners' sockets."""
        # This is on every commit's way, and Path.glob would take ten times as long.
        return [name for name in os.listdir(self._handle) if name.endswith(".sock")]  # noqa: PTH208

    def _send(self, topics: str, names: Iterable[str]) -> None:
        for name in names:
            try:
                self._sender.sendto(topics.encode(), self._address(name))
            except OSError as error:
                if error.errno == errno.ECONNREFUSED and not psutil.pid_exists(_maker(name)):
                    (self._folder / name).unlink(missing_ok=True)  # its process was killed
                # Otherwise its buffer is full: it has wake-ups enough.

    def _address(self, name: str) -> str:
        """A socket address holds 107 bytes; through the open folder, a path of any length fits (Linux)."""
        return f"/proc/self/fd/{self._handle}/{name}"


class Listener:
    """Hears topics; close it when done. `address` is `path`, short enough to bind."""

    def __init__(self, path: Path, address: str) -> None:
        self._path = path
        self._address = address
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
                topics.update(self._socket.recv(_MAX_DATAGRAM_BYTES).decode(errors="replace").split("\n"))
            except BlockingIOError:
                return topics - {_WAKE}

    def wake(self) -> None:
        """Have another thread's `wait` return at once; it hears nothing."""
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # a full buffer wakes it just as well
            sender.sendto(_WAKE.encode(), self._address)

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


def _maker(name: str) -> int:
    """The process that made a socket `channel-pid-random.sock`."""
    return int(name.split("-")[-2])


def _origin(folder: Path) -> str:
    """Name a folder on this kernel: whoever has the same one hears its datagrams, and nobody else does."""
    status = folder.stat()
    return f"{_BOOT_ID.read_text().strip()}:{status.st_dev}:{status.st_ino}"


def _private_folder(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise StoreUnreachable(f"cannot use the folder {folder}: {error.strerror}") from error
    if owner != os.getuid():
        raise StoreUnreachable(f"{folder} belongs to another user")
    return folder
