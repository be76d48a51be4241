"""Putting what is only written while it is put, into a folder and into a real S3 service."""

from typing import BinaryIO

import pytest

from scheduler.blobs import BlobStore, open_blobs
from scheduler.errors import NotFound

KEY = "jobs/job_1/image.ppm"


@pytest.fixture
def blobs(blob_url: str) -> BlobStore:
    return open_blobs(blob_url)


def test_what_is_written_is_read_back(blobs: BlobStore) -> None:
    def write(file: BinaryIO) -> None:
        for part in (b"", b"a" * 100_000, b"b"):
            file.write(part)

    blobs.put(KEY, write)
    assert b"".join(blobs.read(KEY, 0, blobs.size(KEY))) == b"a" * 100_000 + b"b"


def test_what_a_writer_raises_passes_through_and_nothing_is_there(blobs: BlobStore) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise LookupError("no more")

    with pytest.raises(LookupError):
        blobs.put(KEY, write)
    with pytest.raises(NotFound):
        blobs.size(KEY)
