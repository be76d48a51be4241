"""One HTTP exchange with a checked address, which ends in time and receives only so much."""

import ssl
import time
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

_CHUNK_BYTES = 64 * 1024


class FetchFailed(Exception):
    """The request came to nothing; `str()` is one line fit for a user, `limit` the limit that it met, if any.

    It tells nothing of an address that is not allowed, because none was asked; nor whether a name has one.
    """

    def __init__(self, message: str, limit: float | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class Deadline:
    """When a request must have ended, with all its redirects."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, more than none; raises `FetchFailed`."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise self.missed()
        return left

    def missed(self) -> FetchFailed:
        """Return the error of a request that took too long."""
        return FetchFailed(f"it took longer than {self._seconds:g} seconds", self._seconds)


class Exchange:
    """A request and its answer, as a context: every error of the network inside it becomes `FetchFailed`."""

    def __init__(self, pool: httpcore.ConnectionPool, request: httpcore.Request, deadline: Deadline) -> None:
        self._pool = pool
        self._request = request
        self._deadline = deadline

    def __enter__(self) -> httpcore.Response:
        try:
            return self._pool.handle_request(self._request)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._pool.close()
        if isinstance(error, httpcore.TimeoutException):
            raise self._deadline.missed() from error
        if isinstance(error, httpcore.ConnectError):
            raise FetchFailed("no connection could be made") from error
        if isinstance(error, httpcore.NetworkError | httpcore.ProtocolError):
            raise FetchFailed("the server's answer is not whole") from error


class Checked(httpcore.NetworkBackend):
    """Connects to addresses that were checked, whatever name is asked for."""

    def __init__(self, addresses: Sequence[str], deadline: Deadline, max_bytes: int) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002  its addresses are known
        port: int,
        timeout: float | None = None,  # noqa: ARG002  the deadline is for all
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers."""
        *others, last = self._addresses
        for at, address in enumerate(others):
            share = self._deadline.left() / (len(self._addresses) - at)
            try:
                stream = self._backend.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
            return _Timed(stream, self._deadline, self._max_bytes)
        stream = self._backend.connect_tcp(last, port, self._deadline.left(), local_address, socket_options)
        return _Timed(stream, self._deadline, self._max_bytes)


class _Timed(httpcore.NetworkStream):
    """A connection all of whose reads and writes together end by a deadline, and which receives only so much."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline, max_bytes: int) -> None:
        self._stream = stream
        self._deadline = deadline
        self._max_bytes = max_bytes

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Return some bytes, none at the end."""
        data = self._stream.read(min(max_bytes, _CHUNK_BYTES), self._deadline.left())
        self._max_bytes -= len(data)
        if self._max_bytes < 0:
            raise FetchFailed("the server sends too much")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send all of `buffer`."""
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> "_Timed":
        """Return the connection with TLS on it."""
        try:
            secure = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left())
        except httpcore.ConnectError as error:
            raise FetchFailed("no trusted TLS connection could be made") from error
        return _Timed(secure, self._deadline, self._max_bytes)

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks of a stream."""
        return self._stream.get_extra_info(info)
