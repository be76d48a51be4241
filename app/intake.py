"""Backpressure on submissions: what a process refuses unread."""

import shutil
import tempfile
import time
from pathlib import Path

from sqlalchemy import make_url
from starlette.concurrency import run_in_threadpool

from app.settings import FrontEndSettings
from scheduler.blobs import BlobStore
from scheduler.errors import QueueFull, SchedulerError, StorageFull, TenantQueueFull

_REMEMBERED_SECONDS = 1.0
_ALL = ""  # in the place of a tenant


class Intake:
    """What the submissions of this process found full. Use it on the event loop only.

    A full queue and a full disk are remembered for a second, in which nobody looks: refusing a flood costs nothing.
    """

    def __init__(self, settings: FrontEndSettings, blobs: BlobStore) -> None:
        self._settings = settings
        self._blobs = blobs
        self._refusals: dict[str, tuple[float, SchedulerError]] = {}
        self._disks_looked_at = float("-inf")

    async def check(self, tenant: str) -> None:
        """Raise the `QueueFull` or `StorageFull` that a submission of `tenant` would end with, as far as is known."""
        now = time.monotonic()
        for whose in (_ALL, tenant):
            until, error = self._refusals.get(whose, (now, None))
            if error is not None and now < until:
                raise error.with_traceback(None)
        if now < self._disks_looked_at + _REMEMBERED_SECONDS:
            return
        self._disks_looked_at = now
        try:
            await run_in_threadpool(self.check_disks)
        except StorageFull as error:
            self.remember(error, tenant)
            raise

    def remember(self, error: SchedulerError, tenant: str) -> None:
        """Refuse others for a second with what this submission of `tenant` ended with, if it is full for them too."""
        if isinstance(error, QueueFull | StorageFull):
            whose = tenant if isinstance(error, TenantQueueFull) else _ALL
            self._refusals[whose] = (time.monotonic() + _REMEMBERED_SECONDS, error)

    def check_disks(self) -> None:
        """Raise `StorageFull` where a disk that a submission is written to has too little room; any thread may.

        A blob store and an embedded database must have `min_free_disk_bytes`, temporary files the room for one image.
        """
        settings = self._settings
        must = settings.min_free_disk_bytes
        _check("the blob store", self._blobs.free_bytes(), must)
        database = make_url(settings.resolved_database_url)
        if database.get_backend_name() == "sqlite" and database.database:
            _check("the disk of the database", shutil.disk_usage(Path(database.database).parent).free, must)
        room = min(must, settings.max_image_bytes)
        _check("the disk for temporary files", shutil.disk_usage(tempfile.gettempdir()).free, room)


def _check(what: str, free_bytes: int | None, must_bytes: int) -> None:
    if free_bytes is not None and free_bytes < must_bytes:
        raise StorageFull(f"{what} has {free_bytes} bytes free, less than the {must_bytes} it must keep")
