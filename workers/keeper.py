"""Keeps one attempt's checkpoints: saves them in the background, often enough, and never for more than 1 % of the time.

A checkpoint counts once the store names it, which the next report does. Only then does the one before it go.
"""

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from scheduler import logs
from scheduler.blobs import BlobStore
from scheduler.errors import SchedulerError
from scheduler.records import Checkpoint, Lease
from workers import checkpoints
from workers.checkpoints import Fingerprint
from workers.heartbeat import Pulse

if TYPE_CHECKING:
    from workers.pipelines.i2vgen_xl import Snapshot

log = structlog.get_logger()

_COST_SHARE = 0.01  # of the time, at most, for saving: so after a save of t seconds none for t / share


class Keeper:
    """The checkpoints of one attempt. `due`, `offer` and `final` are called by the thread that computes."""

    def __init__(
        self,
        blobs: BlobStore,
        lease: Lease,
        pulse: Pulse,
        fingerprint: Fingerprint,
        *,
        scratch: Path,
        executor: Executor,
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._blobs = blobs
        self._lease = lease
        self._pulse = pulse
        self.fingerprint = fingerprint
        self._scratch = scratch
        self._executor = executor
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._next_at = clock() + interval_seconds
        self._saving: Future[None] | None = None
        self._found = lease.checkpoint
        self._stored: list[Checkpoint] = []
        self.saves = 0
        self.save_seconds = 0.0  # all of them, whichever thread it was

    def due(self) -> bool:
        """Tell whether it is time for another, and none is under way."""
        return self._clock() >= self._next_at and (self._saving is None or self._saving.done())

    def offer(self, snapshot: "Snapshot") -> None:
        """Save `snapshot`, if it is newer, in the background; if that fails, the job goes on without."""
        if snapshot.step > self._last_step():
            self._saving = self._executor.submit(self._try, snapshot)

    def final(self, snapshot: "Snapshot | None") -> Checkpoint | None:
        """Return the last checkpoint, after saving `snapshot` if it is newer; None where there is none."""
        self._wait()
        if snapshot is not None and snapshot.step > self._last_step():
            self._try(snapshot)
        return self._stored[-1] if self._stored else self._found

    def forget(self) -> None:
        """Delete the checkpoint that the lease came with: it is of no use."""
        if self._found is not None:
            self._blobs.delete(self._found.key)
            self._found = None

    def tidy(self, keep: Checkpoint | None) -> None:
        """Delete what this attempt stored and found, but for `keep`."""
        self._wait()
        found = [self._found] if self._found else []
        for checkpoint in [*found, *self._stored]:
            if keep is None or checkpoint.key != keep.key:
                self._blobs.delete(checkpoint.key)
        self._stored = [checkpoint for checkpoint in self._stored if checkpoint is keep]

    def _last_step(self) -> int:
        last = self._stored[-1] if self._stored else self._found
        return last.step if last else 0

    def _wait(self) -> None:
        if self._saving is not None:
            self._saving.result()

    def _try(self, snapshot: "Snapshot") -> None:
        started = self._clock()
        try:
            self._save(snapshot)
        except (SchedulerError, OSError) as error:
            with logs.about(self._lease):
                log.warning("checkpoint not saved", step=snapshot.step, error=str(error))
        now = self._clock()
        self.save_seconds += now - started
        self._next_at = now + max(self._interval_seconds, (now - started) / _COST_SHARE)

    def _save(self, snapshot: "Snapshot") -> None:
        named = self._pulse.named
        superseded = [each for each in self._stored if named is not None and each.step < named.step]
        data = checkpoints.dump(snapshot, self.fingerprint)
        name = f"checkpoint_{snapshot.step}.safetensors"
        path = self._scratch / f"{self._lease.job_id}-{self._lease.fence}-{name}"
        try:
            path.write_bytes(data)
            key = f"jobs/{self._lease.job_id}/{self._lease.fence}/{name}"
            self._blobs.put_file(key, path)
        finally:
            path.unlink(missing_ok=True)
        checkpoint = Checkpoint(key, snapshot.step, str(self.fingerprint), self._lease.plan, len(data))
        self._stored.append(checkpoint)
        self._pulse.saved(checkpoint)
        self.saves += 1
        for old in superseded:
            self._blobs.delete(old.key)
            self._stored.remove(old)
