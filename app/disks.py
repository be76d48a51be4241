"""The disks that a submission is written to."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

from app.settings import FrontEndSettings
from scheduler.alerts import Disk
from scheduler.blobs import BlobStore


def disks(settings: FrontEndSettings, blobs: BlobStore) -> Iterator[Disk]:
    """Yield the disks: `blobs` unless that knows no bounds, an embedded `database`'s, and the `temporary` one.

    The stores must have `min_free_disk_bytes` free, temporary files the room for one image. Raises `StoreError` and
    OSError.
    """
    must_bytes = settings.min_free_disk_bytes
    blobs_bytes = blobs.free_bytes()
    if blobs_bytes is not None:
        yield Disk("blobs", blobs_bytes, must_bytes)
    database = make_url(settings.resolved_database_url)
    if database.get_backend_name() == "sqlite" and database.database:
        yield Disk("database", shutil.disk_usage(Path(database.database).parent).free, must_bytes)
    temporary_bytes = shutil.disk_usage(tempfile.gettempdir()).free
    yield Disk("temporary", temporary_bytes, min(must_bytes, settings.max_image_bytes))
