"""Which URLs may be asked, and what parts they have."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import httpcore

from app.addresses import Network, is_allowed, literal_address

MAX_URL_CHARS = 2048
_FIRST_FREE_PORT = 1024  # below it are the well-known ports of mail, shells and directories; only HTTP's own are used
_PORTS = {"https": 443, "http": 80}

# What a URL may look like is far less than what it could: no user, no fragment, nothing encoded in the host.
_URL = re.compile(r"(?i:(https?)://)(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]{1,5}))?([/?][!-[\]-~]*)?")
_OTHER_SCHEME = re.compile(r"(?!(?i:https?):)[A-Za-z][A-Za-z0-9+.-]*://")
_LABEL = re.compile(r"[0-9A-Za-z_-]{1,63}")
_MAX_HOST_CHARS = 253
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")  # a last label like this is how resolvers tell an IPv4 address


class UrlNotAllowed(ValueError):
    """The URL, or where it leads, is not allowed; `str()` is one line that begins with a verb, fit for a user."""


def check_url(url: str, *, allow_http: bool = False, networks: Iterable[Network] = ()) -> None:
    """Raise `UrlNotAllowed` for a URL that no request would be made to, as far as can be told without looking it up.

    It must be https (or http, if that is allowed), name a host and neither user nor fragment, and use port 443 (80) or
    one from 1024 on. An address must be public, or in one of `networks`.
    """
    host = Target.parse(url, allow_http=allow_http).host
    address = literal_address(host)
    if address is not None:
        check_address(address, tuple(networks))


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in its parts, each as it is sent; an IPv6 host is without its brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str, *, allow_http: bool) -> "Target":
        """Return the parts of a URL; raises `UrlNotAllowed`."""
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


def check_address(text: str, networks: Sequence[Network]) -> str:
    """Return an address that may be asked; raises `UrlNotAllowed`."""
    if not is_allowed(text, networks):
        raise UrlNotAllowed("must not lead to an address that is not public")
    return text


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
