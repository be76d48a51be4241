"""Getting work while the GPU works: claim the next job, fetch what it needs, prepare it; in a thread of its own."""

import queue
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog
from PIL import Image

from scheduler import logs
from scheduler.blobs import BlobStore
from scheduler.catalog import Architecture
from scheduler.errors import LeaseLost, NotFound, StorageFull, StoreUnreachable
from scheduler.records import Lease
from scheduler.service import Scheduler
from scheduler.states import GpuState
from scheduler.wakeup import DISPATCH
from workers import checkpoints
from workers.attempt import Attempt, Ending
from workers.control import Control, Interrupted
from workers.devices import ProbeError
from workers.endings import OUTPUTS
from workers.failures import UnreadableInput, describe, is_unexpected
from workers.heartbeat import Heartbeat
from workers.insist import insist
from workers.keeper import Keeper
from workers.pipelines.request import GenerationRequest
from workers.progress import ProgressScale
from workers.stopwatch import WAITING, Stopwatch
from workers.tracebacks import told

if TYPE_CHECKING:
    from workers.pipelines.i2vgen_xl import I2VGenXL, Run

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Want:
    """What the engine could run next: in which lane of its memory; to join a running pass, of which shape and plan."""

    lane: int = 0
    shape: str | None = None
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A job that could not be prepared, and how it is to end."""

    attempt: Attempt
    ending: Ending


class Drained:
    """The GPU takes no more jobs."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The intake itself has failed: nothing more will come."""

    error: Exception


Arrival = Attempt | Rejected | Drained | Broken | None  # None: look again


class Source(Protocol):
    """Where the engine's work comes from. Both calls are made by the engine's thread alone."""

    def wish(self, want: Want | None) -> None:
        """Say what could be run next; None: nothing. A wish stands until it is fulfilled or changed."""
        ...

    def take(self, timeout_seconds: float) -> Arrival:
        """Return what has come, waiting for it so long; None when nothing has, or to have the engine look around."""
        ...

    def close(self) -> list["Arrival"]:
        """Stop, and return what has come and was never taken."""
        ...


class Preparer:
    """Makes an attempt of a lease: its image, its run, and where it left off."""

    def __init__(
        self,
        model: "I2VGenXL",
        architecture: Architecture,
        scheduler: Scheduler,
        heartbeat: Heartbeat,
        *,
        model_fingerprint: str,
        scratch: Path,
        saver: Executor,
        checkpoint_seconds: float,
        stopping: threading.Event,
    ) -> None:
        self._model = model
        self._architecture = architecture
        self._blobs = scheduler.blobs
        self._leases = scheduler.leases
        self._heartbeat = heartbeat
        self._model_fingerprint = model_fingerprint
        self._scratch = scratch
        self._saver = saver
        self._checkpoint_seconds = checkpoint_seconds
        self._stopping = stopping

    def prepare(self, lease: Lease) -> Attempt | Rejected:
        """Fetch and prepare; what goes wrong becomes the attempt's end."""
        with logs.about(lease):
            return self._prepare(lease)

    def _prepare(self, lease: Lease) -> Attempt | Rejected:
        attempt = self._open(lease)
        attempt.log.info(
            "attempt started", model=lease.model, plan=lease.plan, lane=lease.lane, reserved_bytes=lease.reserved_bytes
        )
        try:
            image = insist(partial(self._fetch, lease), on=StoreUnreachable, check=attempt.control.check)
            attempt.run = self._model.prepare(_request(lease), image)
            if lease.checkpoint is not None:
                self._resume(attempt, attempt.run)
        except Interrupted as interrupted:
            return Rejected(attempt, Ending(cause=interrupted.cause))
        except Exception as error:  # noqa: BLE001  every failure becomes the attempt's outcome
            unexpected = told(error) if is_unexpected(error) else None
            return Rejected(attempt, Ending(error=describe(error), stage=attempt.stage, unexpected=unexpected))
        attempt.stopwatch.enter(WAITING)
        return attempt

    def _open(self, lease: Lease) -> Attempt:
        control = Control(self._stopping)
        scale = ProgressScale(self._architecture, lease.params)
        pulse = self._heartbeat.begin(lease, control, scale.loading())
        fingerprint = checkpoints.fingerprint(
            self._model_fingerprint, _request(lease), lease.plan, compiled=self._model.compiled
        )
        keeper = Keeper(
            self._blobs,
            lease,
            pulse,
            fingerprint,
            scratch=self._scratch,
            executor=self._saver,
            interval_seconds=self._checkpoint_seconds,
        )
        return Attempt(lease, control, pulse, scale, Stopwatch(), keeper)

    def _fetch(self, lease: Lease) -> Image.Image:
        self._tidy_up_after_the_killed(lease)
        return _read_image(self._blobs, lease.image_key)

    def _tidy_up_after_the_killed(self, lease: Lease) -> None:
        for fence in range(1, lease.fence):
            prefix = f"jobs/{lease.job_id}/{fence}"
            if lease.checkpoint is not None and lease.checkpoint.key.startswith(f"{prefix}/"):
                for name in OUTPUTS:
                    self._blobs.delete(f"{prefix}/{name}")
            else:
                self._blobs.delete_prefix(prefix)

    def _resume(self, attempt: Attempt, run: "Run") -> None:
        """Go on from an earlier attempt's checkpoint; one that does not match is discarded, and that told."""
        lease = attempt.lease
        found = lease.checkpoint
        if found is None:
            return
        try:
            data = insist(partial(self._read, found.key), on=StoreUnreachable, check=attempt.control.check)
            snapshot = checkpoints.load(data, attempt.keeper.fingerprint, run)
        except (NotFound, checkpoints.CheckpointUnusable) as error:
            reason = "its file is gone" if isinstance(error, NotFound) else str(error)
            attempt.log.warning("checkpoint discarded", step=found.step, reason=reason)
            insist(partial(self._leases.discard_checkpoint, lease, reason), check=attempt.control.check)
            attempt.keeper.forget()
            return
        run.resume(snapshot)
        insist(partial(self._leases.resumed, lease, snapshot.step), check=attempt.control.check)
        attempt.log.info("resumed", step=snapshot.step, saved_with=found.plan)

    def _read(self, key: str) -> bytes:
        return b"".join(self._blobs.read(key, 0, self._blobs.size(key)))


class Intake:
    """Claims what the engine wishes for, and prepares it, in a thread: the engine never waits for the store."""

    def __init__(
        self,
        claim: Callable[[Want], Lease | None],
        preparer: Preparer,
        scheduler: Scheduler,
        *,
        gpu_id: str,
        poll_seconds: float,
    ) -> None:
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._claim = claim
        self._preparer = preparer
        self._scheduler = scheduler
        self._gpu_id = gpu_id
        self._poll_seconds = poll_seconds
        self._want: Want | None = None
        self._claimed = 0  # jobs claimed, and of these
        self._taken = 0  # those that the engine knows of: only then does its wish count
        self._changed = threading.Condition()
        self._closed = False
        self._listener = scheduler.wakeup.listen(DISPATCH)
        self._thread = threading.Thread(target=self._serve, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def wish(self, want: Want | None) -> None:
        """Say what could be run next; None: nothing."""
        with self._changed:
            if want == self._want:
                return
            self._want = want
            self._changed.notify()
        self._listener.wake()

    def take(self, timeout_seconds: float) -> Arrival:
        """Return what has come, waiting for it so long."""
        try:
            arrival = self._arrivals.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if isinstance(arrival, Attempt | Rejected):
            with self._changed:
                self._taken += 1
                self._want = None  # the engine wished that before it knew of this one
        return arrival

    def look_around(self) -> None:
        """Have `take` return at once. A signal handler may call this."""
        self._arrivals.put(None)

    def close(self) -> list[Arrival]:
        """Stop, and return what has come and was never taken."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._listener.wake()
        self._thread.join()
        self._listener.close()
        left = []
        while not self._arrivals.empty():
            left.append(self._arrivals.get())
        return left

    def _serve(self) -> None:
        try:
            self._claim_and_prepare()
        except Exception as error:  # noqa: BLE001  the engine raises it: a worker without work would never know
            self._arrivals.put(Broken(error))

    def _claim_and_prepare(self) -> None:
        while (want := self._next_want()) is not None:
            lease = self._try(want)
            if lease is None:
                self._listener.wait(self._poll_seconds)
                continue
            with self._changed:
                self._want = None  # fulfilled; the engine says what it wants beside it
                self._claimed += 1
            self._arrivals.put(self._preparer.prepare(lease))

    def _next_want(self) -> Want | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._want and self._claimed == self._taken))
            return None if self._closed else self._want

    def _try(self, want: Want) -> Lease | None:
        try:
            lease = self._claim(want)
            if lease is None and self._scheduler.fleet.gpu(self._gpu_id).state is not GpuState.ACTIVE:
                self._arrivals.put(Drained())
        except (StoreUnreachable, StorageFull, ProbeError, NotFound, LeaseLost) as error:
            log.warning("cannot take jobs now", error=str(error))
            return None
        return lease


def _request(lease: Lease) -> GenerationRequest:
    return GenerationRequest.of(lease.prompt, lease.params)


def _read_image(blobs: BlobStore, key: str) -> Image.Image:
    with tempfile.TemporaryFile() as file:
        try:
            for chunk in blobs.read(key, 0, blobs.size(key)):
                file.write(chunk)
            with Image.open(file, formats=["JPEG", "PPM", "PNG"]) as image:
                return image.convert("RGB")
        except (NotFound, OSError, SyntaxError, ValueError) as error:  # Pillow's words for a broken file
            raise UnreadableInput(f"the job's image cannot be read ({type(error).__name__})") from error
