"""Blobs in an S3 service; credentials and endpoint come from the usual `AWS_*` variables."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, cast

from scheduler.blobs import checked_key
from scheduler.errors import NotFound, StoreUnreachable

_CHUNK_BYTES = 1024 * 1024
_RETRIES = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}  # by default a caller could wait three minutes


class S3Blobs:
    """A `BlobStore` on `s3://bucket/prefix`. An S3 put is atomic and durable by itself."""

    def __init__(self, url: str) -> None:
        try:
            from obstore.store import S3Store
        except ImportError:
            raise StoreUnreachable("S3 needs its client: pip install 'reelq[s3]'") from None
        with _translated():
            # The endpoint's own scheme says whether TLS is wanted; AWS_ALLOW_HTTP need not repeat it.
            self._store = S3Store.from_url(url, client_options={"allow_http": True}, retry_config=_RETRIES)

    def put(self, key: str, write: Callable[[BinaryIO], None]) -> None:
        """Store what `write` writes to the file it is given."""
        with tempfile.NamedTemporaryFile(prefix="reelq-") as file:
            write(cast("BinaryIO", file))
            file.flush()
            self.put_file(key, Path(file.name))

    def put_file(self, key: str, path: Path) -> None:
        """Store a copy of the file at `path` under `key`."""
        with _translated():
            self._store.put(checked_key(key), path)

    def size(self, key: str) -> int:
        """Return a blob's size in bytes."""
        with _translated():
            return int(self._store.head(checked_key(key))["size"])

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """Yield `length` bytes from offset `start`, in chunks."""
        checked_key(key)
        end = start + length
        while start < end:
            with _translated():
                chunk = bytes(self._store.get_range(key, start=start, end=min(end, start + _CHUNK_BYTES)))
            start += len(chunk)
            yield chunk

    def delete(self, key: str) -> None:
        """Delete one blob; one that is not there is no error."""
        checked_key(key)
        with suppress(NotFound), _translated():
            self._store.delete(key)

    def delete_prefix(self, prefix: str) -> int:
        """Delete every blob below `prefix`; returns how many there were."""
        deleted = 0
        with _translated():
            for batch in self._store.list(checked_key(prefix) + "/"):
                self._store.delete([item["path"] for item in batch])
                deleted += len(batch)
        return deleted

    def folders(self, prefix: str) -> list[str]:
        """Return the names directly below `prefix`."""
        with _translated():
            below = self._store.list_with_delimiter(checked_key(prefix) + "/")["common_prefixes"]
        return [name.rstrip("/").rpartition("/")[2] for name in below]

    def free_bytes(self) -> int | None:
        """An S3 service tells no limit."""
        return None


@contextmanager
def _translated() -> Iterator[None]:
    from obstore.exceptions import BaseError, NotFoundError

    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise NotFound("no such blob") from error
    except BaseError as error:
        raise StoreUnreachable(f"the S3 store cannot be used: {str(error).splitlines()[0][:200]}") from error
