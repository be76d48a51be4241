"""Listening and serving: a socket that is bound first, and uvicorn on it until a signal ends it."""

import errno
import ipaddress
import math
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

import uvicorn

from app.errors import CannotListen
from app.main import create_app
from app.protocol import Protocol, raise_descriptor_limit
from app.settings import FrontEndSettings
from scheduler import logs
from scheduler.service import Scheduler

_REASONS = {
    errno.EADDRINUSE: "the port is in use: choose another with --port or REELQ_PORT",
    errno.EACCES: "no permission to use this port",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


def listen(settings: FrontEndSettings) -> socket.socket:
    """Return the socket that the settings ask for: see `bind`. Raises also `StoreError`."""
    with Scheduler.open(settings) as scheduler:
        guarded = settings.trusted_network or scheduler.keys.any_made()
    return bind(settings.host, settings.port, guarded=guarded)


def bind(host: str, port: int, *, guarded: bool = False) -> socket.socket:
    """Return a TCP socket bound to `host` and `port` (0: a free one), not yet listening.

    Raises `CannotListen` if the host is unknown, is beyond loopback with nothing that keeps strangers out (`guarded`
    says that something does), or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that DNS could not even be asked for
        reason = getattr(error, "strerror", "not a host name")
        raise CannotListen(f"cannot listen on {host!r}: {reason}") from error
    # "localhost" may be both; most clients try IPv4.
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    if not (guarded or ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback):
        raise CannotListen(
            f"refusing to listen on {host}: no API key has been made, and without keys everyone who can reach it is an "
            "administrator; make one with `reelq keys create`, or set REELQ_TRUSTED_NETWORK=true if that is meant"
        )
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        # Listening here, and not only when the server starts, is what makes a second server on the port fail now.
        sock.listen()
    except OSError as error:
        sock.close()
        reason = _REASONS.get(error.errno or 0, error.strerror)
        raise CannotListen(f"cannot listen on {host}:{port}: {reason}") from error
    return sock


def run(settings: FrontEndSettings, sock: socket.socket, *, on_ready: Callable[[], None] | None = None) -> None:
    """Serve on `sock` until SIGTERM or SIGINT, then end open requests within the settings' time and return.

    `on_ready` is called on the event loop once requests are answered. Raises `StoreError` if the store cannot be
    opened. The signals are this function's from its first line to its return, in the main thread.
    """
    logs.configure(settings.log_format)
    raise_descriptor_limit()
    with _Signals() as signals, Scheduler.open(settings) as scheduler:
        app = create_app(scheduler, settings)
        config = uvicorn.Config(
            app,
            http=Protocol,
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(settings.request_grace_seconds),
        )
        server = _Server(config, on_ready, before_shutdown=app.state.context.hub.release)
        signals.stop(server)
        server.run(sockets=[sock])


class _Signals:
    """SIGTERM and SIGINT stop a server, the ones that come before it exists included."""

    def __init__(self) -> None:
        self._server: uvicorn.Server | None = None
        self._heard: list[int] = []

    def stop(self, server: uvicorn.Server) -> None:
        """Stop `server` at the next signal, or now if one has come."""
        self._server = server
        server.should_exit = bool(self._heard)

    def __enter__(self) -> Self:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard.append(number)
        if self._server is not None:
            self._server.handle_exit(number, frame)


class _Server(uvicorn.Server):
    """uvicorn, with calls when it is ready and before it waits for open requests; signals are not its business."""

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None] | None, *, before_shutdown: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._before_shutdown = before_shutdown

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets=sockets)
        if self._on_ready is not None:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let long polls answer, then wait for what is left."""
        self._before_shutdown()
        await super().shutdown(sockets=sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals alone: uvicorn would raise them again when it has stopped."""
        yield
