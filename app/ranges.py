"""Conditional and partial answers (RFC 9110, sections 13 and 14): entity tags and byte ranges."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`length` bytes from offset `start`."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """Return the Content-Range header's value in a file of `size` bytes."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class Unsatisfiable(Exception):
    """No byte of the file is in the range asked for."""


def requested(header: str | None, size: int) -> ByteRange | None:
    """Return the range that a Range header asks for in a file of `size` bytes, cut to the file.

    None means the whole file: no header, another unit, several ranges, or a header that is not one (a server may
    ignore those). Raises `Unsatisfiable`.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
    if start >= size:
        raise Unsatisfiable
    return ByteRange(start, end - start + 1)


def none_match(header: str | None, etag: str) -> bool:
    """Tell whether an If-None-Match header lets the answer go out: it does not name `etag` (weak comparison)."""
    if header is None:
        return True
    if header.strip() == "*":
        return False
    return _opaque(etag) not in [_opaque(tag) for tag in header.split(",")]


def if_range(header: str | None, etag: str) -> bool:
    """Tell whether an If-Range header still allows a partial answer: none, or exactly the strong `etag`."""
    return header is None or header.strip() == etag


def _opaque(tag: str) -> str:
    return tag.strip().removeprefix("W/")
