"""A video onto the disk: whole and checked, or not at all."""

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO

from app.client.errors import DownloadCorrupt

Sink = Callable[[bytes], object]


def save(fetch: Callable[[Sink], None], path: Path, *, sha256: str) -> None:
    """Let `fetch` write into a temporary sibling of `path`, and rename that to `path` if its SHA-256 is `sha256`.

    Raises `DownloadCorrupt` if it is not, and whatever `fetch` or the file system raises. `path` is untouched then.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            fetched = _hashing(fetch, file)
        _compare(path, fetched, sha256)
        part.replace(path)
    except BaseException:  # Ctrl-C too leaves no half a file
        part.unlink(missing_ok=True)
        raise


def _hashing(fetch: Callable[[Sink], None], file: IO[bytes]) -> str:
    digest = hashlib.sha256()

    def sink(chunk: bytes) -> None:
        digest.update(chunk)
        file.write(chunk)

    fetch(sink)
    return digest.hexdigest()


def _compare(path: Path, fetched: str, sha256: str) -> None:
    if fetched != sha256.lower():
        raise DownloadCorrupt(
            f"{path} was not written: what came has the SHA-256 {fetched[:12]}…, the job's video {sha256[:12]}…"
        )
