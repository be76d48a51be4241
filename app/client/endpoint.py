"""Where the server is, and the key for it: from the caller, or from REELQ_URL and REELQ_API_KEY."""

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import Self

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's URL without a slash at its end, and the API key for it, which is never shown."""

    url: str
    api_key: str | None = field(repr=False)

    @classmethod
    def of(cls, base_url: str | None, api_key: str | None) -> Self:
        """Return the endpoint; None takes the environment's word, and an empty key is none.

        Raises ValueError unless the URL is http(s)://host, without a user or a password, and the key can be sent.
        """
        url = base_url if base_url is not None else os.environ.get("REELQ_URL") or DEFAULT_URL
        key = (api_key if api_key is not None else os.environ.get("REELQ_API_KEY", "")).strip()
        if key and not _KEY.fullmatch(key):
            raise ValueError("the API key has characters that no key has")  # and is not shown
        return cls(_checked(url.rstrip("/")), key or None)

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine, which no proxy from the environment can reach."""
        host = httpx.URL(self.url).host
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def _checked(url: str) -> str:
    if "@" in url:
        raise ValueError("the URL of a server has no user and no password in it")  # which are not shown
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise ValueError(f"{url!r} is not the URL of a server; it looks like {DEFAULT_URL}")
    return url
