"""Requests to URLs that strangers name: they reach public addresses only, and end in time.

A host name is looked up once, each of its addresses is checked, and the connection is made to a checked address: a name
that means something else a moment later leads nowhere. Redirects are checked in the same way.
"""

import ipaddress
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO
from urllib.parse import urljoin

import httpcore
import httpx

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, float], Sequence[str]]

MAX_URL_CHARS = 2048
_FIRST_FREE_PORT = 1024  # below it are the well-known ports of mail, shells and directories; only HTTP's own are used
_PORTS = {"https": 443, "http": 80}
_MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_ADDRESSES = 4  # of one name
_CHUNK_BYTES = 64 * 1024
_OVERHEAD_BYTES = 256 * 1024  # headers, and what chunked encoding adds
_LOOKUPS = 32  # at once
_LOOKUPS_EACH = 8  # of those, for one tenant

# What a URL may look like is far less than what it could: no user, no fragment, nothing encoded in the host.
_URL = re.compile(r"(?i:(https?)://)(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]{1,5}))?([/?][!-[\]-~]*)?")
_OTHER_SCHEME = re.compile(r"(?!(?i:https?):)[A-Za-z][A-Za-z0-9+.-]*://")
_LABEL = re.compile(r"[0-9A-Za-z_-]{1,63}")
_MAX_HOST_CHARS = 253
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")  # a last label like this is how resolvers tell an IPv4 address

_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")  # all else is private, local, multicast, or an IPv4 address in disguise
_SPECIAL: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own; a cloud's metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's host agent
        "169.254.0.0/16",  # link-local; most clouds' metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays into 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
        "2001::/23",  # Teredo and other tunnels
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)


class UrlNotAllowed(ValueError):
    """The URL, or where it leads, is not allowed; `str()` is one line that begins with a verb, fit for a user."""


class FetchFailed(Exception):
    """The request came to nothing; `str()` is one line fit for a user, `limit` the limit that it met, if any.

    It tells nothing of an address that is not allowed, because none was asked; nor whether a name has one.
    """

    def __init__(self, message: str, limit: float | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class BodyTooLarge(FetchFailed):
    """The answer has more bytes than `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it is larger than {limit} bytes", limit)


class NoRoom(Exception):
    """This process has no room for the request just now: nothing was asked, and nobody out there is to blame."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names are in lower case. `body` is empty where it was written to a file."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def check_url(url: str, *, allow_http: bool = False, networks: Iterable[Network] = ()) -> None:
    """Raise `UrlNotAllowed` for a URL that no request would be made to, as far as can be told without looking it up.

    It must be https (or http, if that is allowed), name a host and neither user nor fragment, and use port 443 (80) or
    one from 1024 on. An address must be public, or in one of `networks`.
    """
    host = _Target.parse(url, allow_http=allow_http).host
    address = _literal(host)
    if address is not None:
        _check_address(address, tuple(networks))


class Lookups:
    """Asks the system's resolver for addresses: only so many names at once, and fewer of one tenant. Thread-safe.

    The resolver may take half a minute longer than anybody waits. Names that nobody answers for hold up only the tenant
    that has named them.
    """

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()  # by tenant
        self._changed = threading.Condition()

    def look_up(self, host: str, timeout_seconds: float, *, tenant: str) -> list[str]:
        """Return the addresses of a host name; raises OSError, `TimeoutError` included.

        Raises `NoRoom` when half of the time has gone and there is no room: the rest is the resolver's.
        """
        until = time.monotonic() + timeout_seconds
        found: SimpleQueue[list[str] | Exception] = SimpleQueue()
        thread = threading.Thread(target=self._look_up, args=(host, tenant, found), name="look-up", daemon=True)
        self._begin(tenant, timeout_seconds / 2)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # there are too many threads
            self._end(tenant)
            raise NoRoom("no thread can be started to look up a host name") from error
        try:
            answer = found.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            raise TimeoutError from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _begin(self, tenant: str, timeout_seconds: float) -> None:
        def room() -> bool:
            return self._under_way.total() < _LOOKUPS and self._under_way[tenant] < _LOOKUPS_EACH

        with self._changed:
            if not self._changed.wait_for(room, timeout_seconds):
                raise NoRoom("too many host names are being looked up")
            self._under_way[tenant] += 1

    def _end(self, tenant: str) -> None:
        with self._changed:
            self._under_way -= Counter((tenant,))  # forgets a tenant that has none left
            self._changed.notify_all()

    def _look_up(self, host: str, tenant: str, found: "SimpleQueue[list[str] | Exception]") -> None:
        try:
            found.put(_resolved(host))
        except Exception as error:  # noqa: BLE001  raised again in the thread that asked
            found.put(error if isinstance(error, OSError) else OSError(str(error)))
        finally:
            self._end(tenant)


class GuardedClient:
    """Makes requests to public addresses, and to those in `networks`. Thread-safe; each request has its own connection.

    `resolve` gives the addresses of a name in so many seconds, and raises OSError, or `NoRoom`, which comes through;
    `tls` is what certificates are checked with.
    """

    def __init__(
        self,
        networks: Iterable[Network] = (),
        *,
        allow_http: bool = False,
        resolve: Resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._networks = tuple(networks)
        self._allow_http = allow_http
        self._resolve = resolve
        self._tls = tls or _default_tls()

    def get(self, url: str, *, timeout_seconds: float, max_bytes: int, into: BinaryIO) -> Answer:
        """Write what is at `url` to `into`, following up to three redirects; all within `timeout_seconds`.

        Raises `UrlNotAllowed`; and `FetchFailed` for any answer but 200, for one that is larger, and for none. Then
        part of a body may have been written.
        """
        deadline = _Deadline(timeout_seconds)
        target = _Target.parse(url, allow_http=self._allow_http)
        for _ in range(_MAX_REDIRECTS + 1):
            with self._asked("GET", target, {}, None, deadline, max_bytes) as response:
                if response.status in _REDIRECTS:
                    target = self._redirected(target, response)
                    continue
                if response.status != 200:
                    raise FetchFailed(f"the server answered {response.status}")
                headers = _headers(response)
                _check_length(headers, max_bytes)
                length = 0
                for chunk in response.iter_stream():
                    length += len(chunk)
                    if length > max_bytes:
                        raise BodyTooLarge(max_bytes)
                    into.write(chunk)
                return Answer(response.status, headers, b"")
        raise FetchFailed(f"more than {_MAX_REDIRECTS} redirects", _MAX_REDIRECTS)

    def post(
        self, url: str, *, headers: Mapping[str, str], content: bytes, timeout_seconds: float, max_bytes: int
    ) -> Answer:
        """Send `content` to `url`, and return whatever is answered, with at most `max_bytes` of the body.

        Follows no redirect. Raises `UrlNotAllowed`, and `FetchFailed` where no whole answer comes in time.
        """
        deadline = _Deadline(timeout_seconds)
        target = _Target.parse(url, allow_http=self._allow_http)
        with self._asked("POST", target, headers, content, deadline, max_bytes) as response:
            body = bytearray()
            for chunk in response.iter_stream():
                body += chunk
                if len(body) >= max_bytes:
                    break
            return Answer(response.status, _headers(response), bytes(body[:max_bytes]))

    def _asked(
        self,
        method: str,
        target: "_Target",
        headers: Mapping[str, str],
        content: bytes | None,
        deadline: "_Deadline",
        max_bytes: int,
    ) -> "_Exchange":
        checked = _Checked(self._addresses(target.host, deadline), deadline, max_bytes + _OVERHEAD_BYTES)
        own = {"Host": target.authority, "Accept-Encoding": "identity", "Connection": "close", "User-Agent": "reelq"}
        if content is not None:
            own["Content-Length"] = str(len(content))
        return _Exchange(
            httpcore.ConnectionPool(ssl_context=self._tls, network_backend=checked),
            httpcore.Request(method, target.url, headers=list((own | dict(headers)).items()), content=content),
            deadline,
        )

    def _addresses(self, host: str, deadline: "_Deadline") -> list[str]:
        """The addresses of `host`, all of them allowed."""
        literal = _literal(host)
        if literal is not None:
            return [_check_address(literal, self._networks)]
        try:
            found = self._resolve(host, deadline.left())
        except TimeoutError:
            raise deadline.missed() from None
        except OSError:
            found = ()
        # One answer for what is not there and what is inside: nobody finds out which names a private network has.
        if not found or not all(_is_allowed(address, self._networks) for address in found):
            raise FetchFailed("its host name has no public address")
        return list(found)[:_MAX_ADDRESSES]

    def _redirected(self, target: "_Target", response: httpcore.Response) -> "_Target":
        location = _headers(response).get("location", "")
        try:
            url = urljoin(str(target), location).partition("#")[0]
        except ValueError:  # "//["
            raise UrlNotAllowed("redirects to what is no URL") from None
        try:
            return _Target.parse(url, allow_http=self._allow_http and target.scheme == "http")
        except UrlNotAllowed as error:
            raise UrlNotAllowed(f"redirects to a URL that {error}") from None


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL in its parts, each as it is sent; an IPv6 host is without its brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str, *, allow_http: bool) -> "_Target":
        if len(url) > MAX_URL_CHARS:
            raise UrlNotAllowed(f"must be at most {MAX_URL_CHARS} characters long")
        other = _OTHER_SCHEME.match(url)
        if other is not None:
            raise UrlNotAllowed(f"must begin with https://, not {other[0][:40]}")
        match = _URL.fullmatch(url)
        if match is None or "#" in url:
            raise UrlNotAllowed("must be like https://host/path, in ASCII, without user, password and fragment")
        scheme, host, port, path = match[1].lower(), match[2].lower(), match[3], match[4] or "/"
        if scheme == "http" and not allow_http:
            raise UrlNotAllowed("must begin with https://")
        number = int(port) if port else _PORTS[scheme]
        if not (number == _PORTS[scheme] or _FIRST_FREE_PORT <= number <= 65_535):
            raise UrlNotAllowed(f"must use port {_PORTS[scheme]}, or one from {_FIRST_FREE_PORT} to 65535")
        _check_host(host)
        return cls(scheme, host.strip("[]"), number, path if path.startswith("/") else f"/{path}")

    @property
    def authority(self) -> str:
        """What goes into the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> httpcore.URL:
        """What httpcore asks; the host is also the name that the certificate must have."""
        return httpcore.URL(
            scheme=self.scheme.encode(), host=self.host.encode(), port=self.port, target=self.path.encode()
        )

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


class _Deadline:
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


class _Exchange:
    """A request and its answer, as a context: every error of the network inside it becomes `FetchFailed`."""

    def __init__(self, pool: httpcore.ConnectionPool, request: httpcore.Request, deadline: _Deadline) -> None:
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


class _Checked(httpcore.NetworkBackend):
    """Connects to addresses that were checked, whatever name is asked for."""

    def __init__(self, addresses: Sequence[str], deadline: _Deadline, max_bytes: int) -> None:
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

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline, max_bytes: int) -> None:
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


def _check_host(host: str) -> None:
    """Raise unless `host` is a name, or an address written in full: no 2130706433, 0x7f.1 or 127.1."""
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise UrlNotAllowed("must have a valid IPv6 address between the brackets") from None
        return
    labels = host.split(".")
    if len(host) > _MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlNotAllowed("must have a host name of labels with 1 to 63 characters each, and no dot at its end")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise UrlNotAllowed("must have an IPv4 address as four decimal numbers, or a name") from None


def _literal(host: str) -> str | None:
    """The address that `host` is, or None where it is a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _check_address(text: str, networks: Sequence[Network]) -> str:
    """Return an address that may be asked; raises `UrlNotAllowed`."""
    if not _is_allowed(text, networks):
        raise UrlNotAllowed("must not lead to an address that is not public")
    return text


def _is_allowed(text: str, networks: Sequence[Network]) -> bool:
    """Whether an address may be asked: it is public, or in one of `networks`."""
    address = ipaddress.ip_address(text)
    if any(address in network for network in networks):
        return True
    if isinstance(address, ipaddress.IPv6Address) and address not in _PUBLIC_V6:
        return False
    return not any(address in network for network in _SPECIAL)


def _resolved(host: str) -> list[str]:
    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


def _check_length(headers: Mapping[str, str], max_bytes: int) -> None:
    """Raise for a body that says of itself that it is too large, or that is not sent as it is."""
    declared = headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise BodyTooLarge(max_bytes)
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise FetchFailed("the server compresses its answer though it was asked not to")


@cache
def _default_tls() -> ssl.SSLContext:
    """The certificates that httpx trusts; making one costs as much as a request."""
    return httpx.create_ssl_context()
