"""Requests to URLs that strangers name: they reach public addresses only, and end in time.

A host name is looked up once, each of its addresses is checked, and the connection is made to a checked address: a name
that means something else a moment later leads nowhere. Redirects are checked in the same way.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO
from urllib.parse import urljoin

import httpcore
import httpx

from app.addresses import Network, is_allowed, literal_address
from app.exchanges import Checked, Deadline, Exchange, FetchFailed
from app.urls import Target, UrlNotAllowed, check_address

Resolve = Callable[[str, float], Sequence[str]]

_MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_ADDRESSES = 4  # of one name
_OVERHEAD_BYTES = 256 * 1024  # headers, and what chunked encoding adds


class BodyTooLarge(FetchFailed):
    """The answer has more bytes than `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it is larger than {limit} bytes", limit)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names are in lower case. `body` is empty where it was written to a file."""

    status: int
    headers: Mapping[str, str]
    body: bytes


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
        deadline = Deadline(timeout_seconds)
        target = Target.parse(url, allow_http=self._allow_http)
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
        deadline = Deadline(timeout_seconds)
        target = Target.parse(url, allow_http=self._allow_http)
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
        target: Target,
        headers: Mapping[str, str],
        content: bytes | None,
        deadline: Deadline,
        max_bytes: int,
    ) -> Exchange:
        checked = Checked(self._addresses(target.host, deadline), deadline, max_bytes + _OVERHEAD_BYTES)
        own = {"Host": target.authority, "Accept-Encoding": "identity", "Connection": "close", "User-Agent": "reelq"}
        if content is not None:
            own["Content-Length"] = str(len(content))
        return Exchange(
            httpcore.ConnectionPool(ssl_context=self._tls, network_backend=checked),
            httpcore.Request(method, target.url, headers=list((own | dict(headers)).items()), content=content),
            deadline,
        )

    def _addresses(self, host: str, deadline: Deadline) -> list[str]:
        """The addresses of `host`, all of them allowed."""
        literal = literal_address(host)
        if literal is not None:
            return [check_address(literal, self._networks)]
        try:
            found = self._resolve(host, deadline.left())
        except TimeoutError:
            raise deadline.missed() from None
        except OSError:
            found = ()
        # One answer for what is not there and what is inside: nobody finds out which names a private network has.
        if not found or not all(is_allowed(address, self._networks) for address in found):
            raise FetchFailed("its host name has no public address")
        return list(found)[:_MAX_ADDRESSES]

    def _redirected(self, target: Target, response: httpcore.Response) -> Target:
        location = _headers(response).get("location", "")
        try:
            url = urljoin(str(target), location).partition("#")[0]
        except ValueError:  # "//["
            raise UrlNotAllowed("redirects to what is no URL") from None
        try:
            return Target.parse(url, allow_http=self._allow_http and target.scheme == "http")
        except UrlNotAllowed as error:
            raise UrlNotAllowed(f"redirects to a URL that {error}") from None


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
