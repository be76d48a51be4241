"""HTTP/1.1 on one connection: uvicorn's protocol, with limits on what a client may have it keep before it is known.

They hold for everyone, before any key is read: the size of a request's head and the time it takes, the requests sent
ahead of their answers, the time for which an answer waits to be read, and the number of connections. What cannot be
read as HTTP is answered with a problem.
"""

import asyncio
import resource
import secrets
import time
from typing import cast

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.joined import JoinedWrites
from app.middleware import DEFAULT_HEADERS, REQUEST_ID
from app.problems import problem

MAX_HEAD_BYTES = 64 * 1024  # request line and headers; trailers, and what stands between the chunks of a body, as well
MAX_AHEAD = 16  # requests of one connection that wait for the answers to earlier ones
HEAD_SECONDS = 10.0  # from connecting, or from a later request's first byte, until its headers are complete
REST_SECONDS = 60.0  # for the rest of a body whose request has its answer already
STALL_SECONDS = 60.0  # in which a client must take some of an answer that waits for it
LINGER_SECONDS = 2.0  # how long a refused client may go on sending: a connection cut at once would lose the answer
RESERVED_DESCRIPTORS = 256  # for the database (SQLite: two for each pooled connection), uploads and other sockets
_LOG_SECONDS = 60.0  # between lines about connections that are turned away

log = structlog.get_logger(__name__)


class _HeadTooLarge(Exception):
    """Raised inside the parser: the head has more than `MAX_HEAD_BYTES`."""


class _TooFarAhead(Exception):
    """Raised inside the parser: more than `MAX_AHEAD` requests wait."""


def max_connections() -> int:
    """Return how many connections this process may hold: each may need a second descriptor, for the file it sends."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (descriptors - min(RESERVED_DESCRIPTORS, descriptors // 2)) // 2


def raise_descriptor_limit() -> None:
    """Let this process open as many files and sockets as it may at all."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Protocol(HttpToolsProtocol):
    """One connection of a client."""

    # Of all connections of the process: a flood must not fill the log.
    _turned_away = 0
    _next_log = 0.0

    _idle_bytes = 0  # received in pieces after the one that last had the end of a head or a part of a body
    _in_body = False
    _refused = False
    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, unless the process has all the connections it can bear."""
        super().connection_made(cast("asyncio.Transport", JoinedWrites(transport, self.loop)))
        if len(self.connections) > max_connections():
            transport.abort()
            self._log_turned_away(len(self.connections) - 1)
        else:
            self._close_in(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._no_deadline()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Let the answer wait for its reader, but not for ever."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with the answer, of which the reader has taken most of what waited."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what came. Nothing here is done for each byte, and little for each request."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._idle_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # to a protocol that is not spoken here: the request is answered as any other
        except httptools.HttpParserError as error:
            self._refuse(error.__context__)
            return
        if self._idle_bytes > MAX_HEAD_BYTES:
            self._refuse(_HeadTooLarge())
        elif self._deadline is None and self.cycle.response_complete:
            if self._in_body:
                self._close_in(REST_SECONDS)
            elif self._idle_bytes:
                self._close_in(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """Start the request, or queue it behind the one that is being answered."""
        if self._head_bytes() > MAX_HEAD_BYTES:
            raise _HeadTooLarge
        super().on_headers_complete()
        self._idle_bytes = 0
        self._in_body = True
        self._no_deadline()
        if len(self.pipeline) > MAX_AHEAD:
            raise _TooFarAhead

    def on_body(self, body: bytes) -> None:
        """Hand over a part of the body, whose limits are `BodyLimit`'s."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of the request."""
        self._in_body = False
        super().on_message_complete()

    @classmethod
    def _log_turned_away(cls, connections: int) -> None:
        cls._turned_away += 1
        now = time.monotonic()
        if now >= cls._next_log:
            log.warning("too many connections: new ones are closed", connections=connections, closed=cls._turned_away)
            cls._turned_away = 0
            cls._next_log = now + _LOG_SECONDS

    def _head_bytes(self) -> int:
        lines = len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n\r\n")
        for name, value in self.headers:
            lines += len(name) + len(value) + 4  # ": " and the end of the line
        return lines

    def _close_in(self, seconds: float) -> None:
        # Not `close()`: that would wait for ever for a client that reads nothing.
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _no_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, why: BaseException | None) -> None:
        self._refused = True
        self._no_deadline()
        cycle = self.cycle
        answered = cycle is None or cycle.response_complete
        # The client would take it for the answer to an earlier request, or it would end up in the middle of one.
        unfit = not answered and (not cycle.more_body or cycle.response_started or bool(self.pipeline))
        if unfit or isinstance(why, _TooFarAhead) or self.transport.is_closing():
            self.transport.abort()
            return
        if not answered:  # its body is what cannot be read
            cycle.disconnected = True
            cycle.message_event.set()
        if isinstance(why, _HeadTooLarge):
            detail = f"the request line and headers have more than {MAX_HEAD_BYTES} bytes"
            self._answer(431, "headers_too_large", detail, limit=MAX_HEAD_BYTES)
        else:
            self._answer(400, "malformed_request", "the request is not valid HTTP/1.1")
        self.transport.write_eof()
        self._close_in(LINGER_SECONDS)

    def _answer(self, status: int, code: str, detail: str, *, limit: int | None = None) -> None:
        request_id = secrets.token_hex(8)
        # No path: what was read of it may be anything. An empty `instance` means the URL that was asked for.
        answer = problem({"path": "", "state": {"request_id": request_id}}, status, code, detail, limit=limit)
        headers = [
            *self.server_state.default_headers,
            *answer.raw_headers,
            (REQUEST_ID.lower().encode(), request_id.encode()),
            *DEFAULT_HEADERS,
            (b"connection", b"close"),
        ]
        lines = [STATUS_LINE[status], *(name + b": " + value + b"\r\n" for name, value in headers), b"\r\n"]
        self.transport.write(b"".join([*lines, answer.body]))
