"""How long one claim takes, durable commit included, as the queue behind it grows."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.queue.backlog import Backlog
from benchmarks.queue.reelq import SHAPES, TOTAL_BYTES, gpu_id, opened, register_fleet, register_worker, succeed
from scheduler.policy import Policy
from scheduler.service import Scheduler
from scheduler.store.script import Statement

HEAD_FITS = "head fits"
FEW_FIT = "95 % do not fit"
NOTHING_FITS = "nothing fits"
FEW_FIT_RESERVED = "95 % do not fit, GPU reserved"
BARE_COMMIT = "no claim: one row changed and committed"  # what the disk takes of each, and the least there can be
CASES = (HEAD_FITS, FEW_FIT, NOTHING_FITS, FEW_FIT_RESERVED, BARE_COMMIT)

_CHANGE = Statement("UPDATE gpus SET seen_at = seen_at + 0.001 WHERE id = :gpu_id")

_NEVER_SECONDS = 1e9
_BLOCK = 25  # claims between two refills: fewer than the smallest backlog has jobs of one shape
_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class _Seat:
    """A worker on a GPU of its own, under its own policy, and the memory that it finds free in one of the cases.

    Where little is free, that is because another job runs there.
    """

    scheduler: Scheduler
    worker_id: str
    gpu_id: str
    free_bytes: int
    is_crowded: bool


class DeepQueue:
    """One database with a backlog, and the claims on it. Close it when done."""

    def __init__(self, url: str, folder: Path) -> None:
        """Register the fleet on a migrated database. Nothing is queued yet but one job of each shape."""
        self._closing = ExitStack()
        patient = self._closing.enter_context(opened(url, folder, reserve_after_seconds=_NEVER_SECONDS))
        eager = self._closing.enter_context(opened(url, folder, reserve_after_seconds=0.0))
        register_fleet(patient)
        self._backlog = Backlog(patient)
        smallest = self._backlog.smallest_class * Policy().memory_class_bytes

        def seat(number: int, scheduler: Scheduler, free_bytes: int, *, is_crowded: bool) -> _Seat:
            gpu = gpu_id(number)
            return _Seat(scheduler, register_worker(scheduler, gpu), gpu, free_bytes, is_crowded)

        self._seats = {
            HEAD_FITS: seat(0, patient, TOTAL_BYTES, is_crowded=False),
            FEW_FIT: seat(1, patient, smallest, is_crowded=True),
            NOTHING_FITS: seat(2, patient, smallest - 1, is_crowded=True),
            FEW_FIT_RESERVED: seat(3, eager, smallest, is_crowded=True),
        }

    def fill(self, count: int) -> None:
        """Queue `count` jobs."""
        self._backlog.add(count)
        for seat in self._seats.values():
            # SQLite would prepare each statement of a connection from before the change of indexes at every call.
            seat.scheduler.database.close()

    def claim(self, case: str, count: int) -> list[float]:
        """Claim `count` times in one of `CASES`, and finish what was claimed; return the seconds of each claim.

        The queue keeps its length: after some claims as many jobs of the same shapes are queued, unmeasured.
        """
        if case == BARE_COMMIT:
            return [self._commit() for _ in range(count)]
        seat = self._seats[case]
        running = seat.scheduler.queue.claim(seat.worker_id, seat.gpu_id, TOTAL_BYTES) if seat.is_crowded else None
        self._claim(case, _WARM_UP)
        seconds = [each for start in range(0, count, _BLOCK) for each in self._claim(case, min(_BLOCK, count - start))]
        if running is not None:
            seat.scheduler.leases.release(running)
        return seconds

    def _claim(self, case: str, count: int) -> list[float]:
        seat = self._seats[case]
        seconds, shapes = [], []
        for _ in range(count):
            started = time.monotonic()
            lease = seat.scheduler.queue.claim(seat.worker_id, seat.gpu_id, seat.free_bytes)
            seconds.append(time.monotonic() - started)
            assert (lease is None) == (case == NOTHING_FITS), f"{case}: {lease}"
            if lease is not None:
                shapes.append(SHAPES.index(lease.params))
                succeed(seat.scheduler, lease)
        if shapes:
            self._backlog.add_shapes(shapes)
        return seconds

    def _commit(self) -> float:
        seat = self._seats[HEAD_FITS]
        started = time.monotonic()
        with seat.scheduler.database.trip() as trip:
            trip.run((_CHANGE,), {"gpu_id": seat.gpu_id})
        return time.monotonic() - started

    def close(self) -> None:
        """Close its connections."""
        self._closing.close()
