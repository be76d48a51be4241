"""Where images and videos are kept: a folder, or any S3 service."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from scheduler.errors import NotFound, StoreUnreachable

_KEY = re.compile(r"[a-z0-9_]+(?:/[a-z0-9_.]*[a-z0-9_])*")


class BlobStore(Protocol):
    """Immutable files by key (`jobs/<id>/…`). A put is durable and whole before it returns, or it did not happen.

    Raises `NotFound` for a key that is not there or could not be, `StorageFull` when there is no room,
    `StoreUnreachable` otherwise.
    """

    def put(self, key: str, write: Callable[[BinaryIO], None]) -> None:
        """Store under `key` what `write` writes to the file it is given; what it raises passes through."""

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at `path` under `key`; the file may be moved away."""

    def size(self, key: str) -> int:
        """Return a blob's size in bytes."""

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """Yield `length` bytes from offset `start`, in chunks."""

    def delete(self, key: str) -> None:
        """Delete one blob; one that is not there is no error."""

    def delete_prefix(self, prefix: str) -> int:
        """Delete every blob below `prefix`; returns how many there were."""

    def folders(self, prefix: str) -> list[str]:
        """Return the names directly below `prefix`; some services still list one whose blobs have gone."""

    def free_bytes(self) -> int | None:
        """Return the room that is left, or None where there is no limit to know."""


def checked_key(key: str) -> str:
    """Return `key`; raises `NotFound` unless it is one: no "..", nothing from outside reaches a path or a URL."""
    if not _KEY.fullmatch(key):
        raise NotFound(f"no blob {key[:80]!r}")
    return key


def open_blobs(url: str) -> BlobStore:
    """Open the blob store at `url`: `file:///folder` or `s3://bucket/prefix`."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        from scheduler.blobs.local import LocalBlobs

        return LocalBlobs(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        from scheduler.blobs.s3 import S3Blobs

        return S3Blobs(url)
    raise StoreUnreachable("REELQ_BLOB_URL must be file:///folder or s3://bucket/prefix")
