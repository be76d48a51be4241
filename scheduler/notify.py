"""Wake-ups between machines: PostgreSQL's NOTIFY takes topics to every process that listens on the database.

One thread with one connection sends what gathers and hears what others send. It is apart from the connections that
do the work, because a transaction that ends with a NOTIFY commits under a lock of the whole server.

When the connection is lost, the thread connects and listens again by itself, and says on each channel that anything
may have changed. A connection pooler in transaction mode (PgBouncer) delivers no notifications: behind one, wake-ups
between machines are lost, and polling finds everything.
"""

import math
import os
import random
import select
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.engine import URL

from scheduler.outbox import Channel, Outbox, pack, unpack
from scheduler.processes import Backoff

if TYPE_CHECKING:
    import psycopg

log = structlog.get_logger()

_NOTIFY = "SELECT pg_notify(name, payload) FROM unnest(%s::text[], %s::text[]) AS messages(name, payload)"
_CONNECTION = {
    "application_name": "reelq wake-ups",
    "connect_timeout": 5,
    # Who only listens never sends, so only these tell that the server is gone; the last is in milliseconds.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    # A hint need not be on disk; otherwise every NOTIFY would wait for a flush of the log.
    "options": "-c synchronous_commit=off -c lock_timeout=10s -c statement_timeout=10s",
}
_RETRY_SECONDS = (0.1, 5.0)  # first, longest
_CLOSE_SECONDS = 2.0


class Notifier:
    """Sends topics to other machines and hears theirs; it connects when it is first used.

    `origin` names those who need not hear what this process sends. What arrives from any other goes to
    `deliver(channel, topics)`, which the thread calls and which must not block.
    """

    def __init__(
        self,
        url: URL,
        origin: str,
        channels: Mapping[str, Channel],
        deliver: Callable[[str, Collection[str]], None],
    ) -> None:
        _, self._parameters = url.get_dialect()().create_connect_args(url)
        self._origin = origin
        self._channels = channels
        self._deliver = deliver
        self._lock = threading.Lock()  # guards the two below, and the bell against its end
        self._outbox = Outbox(channels)
        self._wanted: set[str] = set()
        self._bell = os.eventfd(0)  # rung when the thread has something to do
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wake-ups", daemon=True)
        self._thread.start()

    def send(self, channel: str, topic: str) -> None:
        """Send a topic to every other origin that listens on `channel`, soon; never blocks and never fails."""
        with self._lock:
            if self._outbox.put(channel, topic):
                self._ring()

    def listen(self, channel: str) -> None:
        """Deliver what others send on `channel` from now on, and at first and after every gap its `anything`."""
        with self._lock:
            self._wanted.add(channel)
            self._ring()

    def close(self) -> None:
        """Send what waits and end; a database that does not answer is waited for no longer than 2 s."""
        with self._lock:
            self._closed.set()
        os.eventfd_write(self._bell, 1)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            os.close(self._bell)

    def _ring(self) -> None:
        if not self._closed.is_set():
            os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        """Connect at the first use, and again whenever the connection is lost, until closed."""
        import psycopg

        os.eventfd_read(self._bell)
        with self._lock:
            if self._closed.is_set() and self._outbox.due_at() is None:
                return
        first, longest = _RETRY_SECONDS
        backoff = Backoff(first, longest)
        while True:
            connected_at = math.inf
            try:
                with closing(psycopg.connect(autocommit=True, **{**self._parameters, **_CONNECTION})) as conn:
                    connected_at = time.monotonic()
                    if backoff.failures:
                        log.info("wake-ups reach other machines again", failures=backoff.failures)
                    self._serve(conn)
            except psycopg.Error as error:
                if time.monotonic() - connected_at > longest:
                    backoff.succeeded()
                wait_seconds = backoff.failed() * random.uniform(0.5, 1.0)  # noqa: S311  so that not all come at once
                if backoff.failures == 1 and not self._closed.is_set():
                    log.warning("no wake-ups between machines, polling instead", error=str(error).partition("\n")[0])
                if self._closed.wait(wait_seconds):
                    return
            else:
                return

    def _serve(self, conn: "psycopg.Connection[Any]") -> None:
        """Send and hear until closed; raises psycopg's error when the connection is lost."""
        heard: set[str] = set()
        waiting = select.poll()
        waiting.register(conn.fileno(), select.POLLIN)
        waiting.register(self._bell, select.POLLIN)
        while True:
            last = self._closed.is_set()
            wait_seconds = self._send_due(conn, everything=last)
            if last:
                return
            self._listen(conn, heard)
            for message in conn.notifies(timeout=0):
                self._receive(message)
            ready = waiting.poll(None if wait_seconds is None else wait_seconds * 1000)
            if any(descriptor == self._bell for descriptor, _ in ready):
                os.eventfd_read(self._bell)

    def _send_due(self, conn: "psycopg.Connection[Any]", *, everything: bool) -> float | None:
        """Send what is due, or everything; returns in how many seconds more is due, or None if nothing waits."""
        with self._lock:
            due_at, now = self._outbox.due_at(), time.monotonic()
            if due_at is None:
                return None
            if due_at > now and not everything:
                return due_at - now
            taken = self._outbox.take(now)
        messages = [(self._channels[each].name, text) for each in taken for text in pack(self._origin, taken[each])]
        try:
            conn.execute(_NOTIFY, [[name for name, _ in messages], [text for _, text in messages]])
        except BaseException:
            with self._lock:
                for channel in taken:  # nobody knows what has been sent
                    self._outbox.put(channel, self._channels[channel].anything)
            raise
        return None

    def _listen(self, conn: "psycopg.Connection[Any]", heard: set[str]) -> None:
        """Listen on the channels wanted beyond those `heard`: what was sent before now has been missed."""
        with self._lock:
            new = self._wanted - heard
        for channel in new:
            conn.execute(f"LISTEN {self._channels[channel].name}".encode())
            heard.add(channel)
            self._deliver(channel, [self._channels[channel].anything])

    def _receive(self, message: "psycopg.Notify") -> None:
        origin, topics = unpack(message.payload)
        if origin == self._origin:
            return
        for channel, between in self._channels.items():
            if between.name == message.channel:
                self._deliver(channel, topics)
