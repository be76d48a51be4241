"""Blobs in a folder of this machine, or of a file system that all machines mount."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from scheduler.blobs import checked_key
from scheduler.errors import NotFound, StorageFull, StoreUnreachable

_CHUNK_BYTES = 256 * 1024


class LocalBlobs:
    """A `BlobStore` in a folder: files arrive under a temporary name, are synced, then renamed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable: set[Path] = set()  # the folders in the root, few, whose names are on disk
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            writable = os.access(root, os.R_OK | os.W_OK | os.X_OK)
        except OSError as error:
            raise StoreUnreachable(f"cannot use the blob folder {root}: {error.strerror}") from error
        if not writable:
            raise StoreUnreachable(f"cannot use the blob folder {root}: no permission to write")

    def put(self, key: str, write: Callable[[BinaryIO], None]) -> None:
        """Store what `write` writes to the file it is given, durably."""
        target = self._path(key)
        partial = target.with_name(f".{secrets.token_hex(8)}.partial")
        with _translated():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("xb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            self._sync_folders(target.parent)

    def put_file(self, key: str, path: Path) -> None:
        """Store a copy of the file at `path` under `key`, durably."""
        with _translated(), path.open("rb") as source:
            self.put(key, lambda file: shutil.copyfileobj(source, file, _CHUNK_BYTES))

    def size(self, key: str) -> int:
        """Return a blob's size in bytes."""
        with _translated(), self._path(key).open("rb") as file:  # a folder can be measured, but not opened
            return os.fstat(file.fileno()).st_size

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """Yield `length` bytes from offset `start`, in chunks."""
        with _translated(), self._path(key).open("rb") as file:
            file.seek(start)
            while length > 0 and (chunk := file.read(min(length, _CHUNK_BYTES))):
                length -= len(chunk)
                yield chunk

    def delete(self, key: str) -> None:
        """Delete one file; one that is not there is no error."""
        with _translated(), suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
            self._path(key).unlink()

    def delete_prefix(self, prefix: str) -> int:
        """Delete the folder `prefix` with all that is in it; returns how many files that were."""
        folder = self._path(prefix)
        with _translated():
            files = sum(path.is_file() for path in folder.rglob("*"))
            try:
                shutil.rmtree(folder)
            except (FileNotFoundError, NotADirectoryError):
                return 0
        return files

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders in `prefix`."""
        with _translated():
            try:
                return [path.name for path in self._path(prefix).iterdir() if path.is_dir()]
            except FileNotFoundError:
                return []

    def free_bytes(self) -> int | None:
        """Return the free bytes of the file system, as an unprivileged process may use them."""
        with _translated():
            return shutil.disk_usage(self.root).free

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _sync_folders(self, folder: Path) -> None:
        """Make the names durable that lead to a new file in `folder`."""
        while True:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            if folder == self.root or folder in self._durable:
                return
            below, folder = folder, folder.parent
            if folder == self.root:
                self._durable.add(below)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFound(f"no blob at {Path(error.filename).name}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the disk of the blob store has no room left") from error
        raise StoreUnreachable(f"the blob store cannot be used: {error.strerror}") from error
