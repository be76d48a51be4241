"""The folder of blobs when things go wrong: whole files or none, and one clear line."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from scheduler.blobs import open_blobs
from scheduler.blobs.local import LocalBlobs
from scheduler.errors import NotFound, StorageFull, StoreUnreachable


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"x" * 1000)
    return path


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


def files(blobs: LocalBlobs) -> list[Path]:
    return [path for path in blobs.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("code", "expected"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, StoreUnreachable)]
)
@pytest.mark.parametrize("when", ["copy", "fsync", "rename"])
def test_a_put_that_fails_leaves_nothing(
    blobs: LocalBlobs,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    code: int,
    expected: type[Exception],
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    def half_a_copy(_from: Any, to: Any, _size: int) -> None:
        to.write(b"half")
        fail()

    target, replacement = {
        "copy": ((shutil, "copyfileobj"), half_a_copy),
        "fsync": ((os, "fsync"), fail),
        "rename": ((Path, "replace"), fail),
    }[when]
    with monkeypatch.context() as patch:
        patch.setattr(*target, replacement)
        with pytest.raises(expected) as refused:
            blobs.put_file("jobs/job_1/a", source)

    assert "\n" not in str(refused.value)
    assert files(blobs) == []
    with pytest.raises(NotFound):
        blobs.size("jobs/job_1/a")


def test_a_put_that_fails_keeps_what_was_there(
    blobs: LocalBlobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.put_file("jobs/job_1/a", source)
    source.write_bytes(b"y")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
        with pytest.raises(StoreUnreachable):
            blobs.put_file("jobs/job_1/a", source)

    assert blobs.size("jobs/job_1/a") == 1000


def test_file_and_folders_are_synced_before_a_put_returns(
    blobs: LocalBlobs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def watch(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watch)
    blobs.put_file("jobs/job_1/a", source)

    partial, *folders = synced
    assert partial.parent == blobs.root / "jobs" / "job_1"
    assert folders == [blobs.root / "jobs" / "job_1", blobs.root / "jobs", blobs.root]


def test_the_room_that_is_left_is_known(blobs: LocalBlobs) -> None:
    free = blobs.free_bytes()
    assert free is not None
    assert free > 0


def test_the_folder_is_private(blobs: LocalBlobs) -> None:
    assert blobs.root.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path, source: Path) -> None:
    with pytest.raises(StoreUnreachable, match=r"cannot use the blob folder .*Not a directory"):
        LocalBlobs(source / "blobs")


@pytest.mark.parametrize("url", ["", "blobs", "http://host/x", "file://other-host/x", "gs://bucket"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(StoreUnreachable, match="REELQ_BLOB_URL must be"):
        open_blobs(url)


def test_a_url_may_hold_any_path(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c%20ü"

    blobs = open_blobs(folder.as_uri())

    assert isinstance(blobs, LocalBlobs)
    assert blobs.root == folder
