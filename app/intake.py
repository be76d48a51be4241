"""Backpressure on submissions: what a process refuses unread."""

import time

from starlette.concurrency import run_in_threadpool

from app.disks import disks
from app.settings import FrontEndSettings
from scheduler.blobs import BlobStore
from scheduler.errors import QueueFull, SchedulerError, StorageFull, TenantQueueFull

_REMEMBERED_SECONDS = 1.0
_DISKS = {
    "blobs": "the blob store",
    "database": "the disk of the database",
    "temporary": "the disk for temporary files",
}
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
        """Raise `StorageFull` where a disk that a submission is written to has too little room; any thread may."""
        for disk in disks(self._settings, self._blobs):
            if disk.free_bytes < disk.required_bytes:
                free, must = disk.free_bytes, disk.required_bytes
                raise StorageFull(f"{_DISKS[disk.name]} has {free} bytes free, less than the {must} it must keep")
