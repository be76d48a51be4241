"""One attempt, from its lease to its end: load, encode, denoise step by step, decode, mux, publish."""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog
from PIL import Image

from scheduler.blobs import BlobStore
from scheduler.catalog import Architecture
from scheduler.errors import LeaseLost, NotFound, SchedulerError, StorageFull, StoreUnreachable
from scheduler.records import JobError, Lease, Measured, Result
from scheduler.service import Scheduler
from workers.control import Cause, Control, Interrupted
from workers.heartbeat import Heartbeat
from workers.meter import Meter
from workers.pipelines.request import GenerationRequest
from workers.poster import write_poster
from workers.progress import ProgressScale
from workers.video import Frame, VideoInfo, encode_mp4

if TYPE_CHECKING:
    from workers.pipelines.i2vgen_xl import I2VGenXL, Run

log = structlog.get_logger()

INTERNAL_ERROR = "internal_error"  # the outcome of a failure that nobody foresaw

_T = TypeVar("_T")
_INSIST_SECONDS = 60.0  # how long to try to tell the store how an attempt ended


class UnreadableInput(Exception):
    """The job's stored image is missing or broken: no attempt could succeed."""


class Runner:
    """Runs leased jobs on a loaded model, one at a time."""

    def __init__(
        self,
        model: "I2VGenXL",
        architecture: Architecture,
        scheduler: Scheduler,
        heartbeat: Heartbeat,
        meter: Meter,
        *,
        scratch: Path,
        crf: int,
    ) -> None:
        self._model = model
        self._architecture = architecture
        self._blobs = scheduler.blobs
        self._leases = scheduler.leases
        self._queue = scheduler.queue
        self._heartbeat = heartbeat
        self._meter = meter
        self._scratch = scratch
        self._crf = crf

    def run(self, lease: Lease, control: Control) -> str:
        """Run one attempt and end its lease, whatever happens; returns the outcome.

        Raises only when the store cannot be told; the lease then expires and another attempt follows.
        """
        logger = log.bind(job_id=lease.job_id, attempt=lease.attempt, lease=lease.fence)
        logger.info("attempt started", model=lease.model, plan=lease.plan, reserved_bytes=lease.reserved_bytes)
        started = time.monotonic()
        self._meter.reset_peak()
        self._heartbeat.begin(lease, control)
        made = self._attempt(lease, control)
        measured = Measured(self._meter.peak_bytes(), time.monotonic() - started)
        try:
            outcome = self._end(lease, made, measured)
            logger.info(
                "attempt ended",
                outcome=outcome,
                run_seconds=measured.run_seconds,
                exc_info=made if _is_unexpected(made) else None,
            )
        finally:
            self._heartbeat.end()  # not before: while the store is away the lease must not run out
            del made  # a failure's traceback holds this frame, and with it the tensors of those below
        if outcome != "succeeded":
            self._blobs.delete_prefix(_output_prefix(lease.job_id, lease.fence))
        return outcome

    def _attempt(self, lease: Lease, control: Control) -> Result | Exception:
        try:
            with tempfile.TemporaryDirectory(dir=self._scratch) as scratch:
                return self._produce(lease, control, Path(scratch))
        except Exception as error:  # noqa: BLE001  every failure becomes the attempt's outcome
            return error

    def _produce(self, lease: Lease, control: Control, scratch: Path) -> Result:
        scale = ProgressScale(self._architecture, lease.params)
        self._heartbeat.progress(scale.loading())
        image = _insist(partial(self._fetch, lease), on=StoreUnreachable, check=control.check)
        control.check()
        self._heartbeat.progress(scale.encoding())
        run = self._model.prepare(_request(lease), image)
        run.encode()
        self._heartbeat.progress(scale.denoised(0))
        for index in range(run.steps):
            control.check()
            run.step(index)
            self._heartbeat.progress(scale.denoised(index + 1))
        control.check()
        video, poster = scratch / "video.mp4", scratch / "thumbnail.jpg"
        self._heartbeat.progress(scale.decoded(0))
        frames = self._frames(run, scale, control, poster)
        info = encode_mp4(frames, video, fps=lease.params.target_fps, crf=self._crf)
        self._heartbeat.progress(scale.muxing())
        control.check()
        store = partial(self._store, lease, info, video, poster)
        return _insist(store, on=StoreUnreachable, check=control.check)

    def _fetch(self, lease: Lease) -> Image.Image:
        for fence in range(1, lease.fence):  # an attempt that was killed while publishing could not tidy up
            self._blobs.delete_prefix(_output_prefix(lease.job_id, fence))
        return _read_image(self._blobs, lease.image_key)

    def _frames(self, run: "Run", scale: ProgressScale, control: Control, poster: Path) -> Iterator[Frame]:
        for count, frame in enumerate(run.decode(), start=1):
            if count == 1:
                write_poster(frame, poster)
            control.check()
            self._heartbeat.progress(scale.decoded(count))
            yield frame

    def _store(self, lease: Lease, info: VideoInfo, video: Path, poster: Path) -> Result:
        prefix = _output_prefix(lease.job_id, lease.fence)
        self._blobs.put_file(f"{prefix}/video.mp4", video)
        self._blobs.put_file(f"{prefix}/thumbnail.jpg", poster)
        return Result(
            video_key=f"{prefix}/video.mp4",
            thumbnail_key=f"{prefix}/thumbnail.jpg",
            bytes=info.bytes,
            sha256=info.sha256,
            width=info.width,
            height=info.height,
            num_frames=info.num_frames,
            fps=info.fps,
            duration_seconds=info.duration_seconds,
        )

    def _end(self, lease: Lease, made: Result | Exception, measured: Measured) -> str:
        """Tell the store how the attempt ended; a lease that was lost meanwhile is an outcome too."""
        try:
            if isinstance(made, Result):
                return _insist(lambda: self._leases.succeed(lease, made, measured).value)
            return _insist(lambda: self._settle(lease, made, measured))
        except LeaseLost:
            # Or an earlier call of `succeed` did what it was told, and only its answer was lost.
            return "succeeded" if _insist(lambda: self._is_published(lease)) else Cause.LEASE_LOST.value

    def _is_published(self, lease: Lease) -> bool:
        try:
            result = self._queue.get(lease.job_id).result
        except NotFound:  # deleted meanwhile
            return False
        return result is not None and result.video_key.startswith(f"{_output_prefix(lease.job_id, lease.fence)}/")

    def _settle(self, lease: Lease, failure: Exception, measured: Measured) -> str:
        """Tell the store how a failed attempt ended; returns the outcome."""
        if isinstance(failure, Interrupted):
            if failure.cause is Cause.CANCEL:
                self._leases.cancelled(lease, measured)
            elif failure.cause in (Cause.RELEASE, Cause.SHUTDOWN):
                self._leases.release(lease)
            return failure.cause.value
        error = _describe(failure)
        if isinstance(failure, UnreadableInput):
            self._leases.fail(lease, error, measured)
        else:
            self._leases.retry(lease, error, measured)
        return error.code


def _request(lease: Lease) -> GenerationRequest:
    return GenerationRequest(prompt=lease.prompt, **lease.params.to_dict())


def _output_prefix(job_id: str, fence: int) -> str:
    return f"jobs/{job_id}/{fence}"


def _read_image(blobs: BlobStore, key: str) -> Image.Image:
    with tempfile.TemporaryFile() as file:
        try:
            for chunk in blobs.read(key, 0, blobs.size(key)):
                file.write(chunk)
            with Image.open(file, formats=["PNG"]) as image:
                return image.convert("RGB")
        except (NotFound, OSError, SyntaxError, ValueError) as error:  # Pillow's words for a broken file
            raise UnreadableInput(f"the job's image cannot be read ({type(error).__name__})") from error


def _describe(failure: Exception) -> JobError:
    """The failure as callers may see it: details stay in the log."""
    from workers.pipelines import runtime

    if isinstance(failure, UnreadableInput):
        return JobError("input_unreadable", str(failure))
    if isinstance(failure, StorageFull):
        return JobError("storage_full", str(failure))
    if isinstance(failure, StoreUnreachable):
        return JobError("store_unreachable", str(failure))
    if runtime.is_out_of_memory(failure):
        return JobError("out_of_memory", "the GPU ran out of memory although the estimate fitted")
    return JobError(INTERNAL_ERROR, f"the worker failed with {type(failure).__name__}")


def _is_unexpected(made: Result | Exception) -> bool:
    return not isinstance(made, Result | Interrupted | SchedulerError)


def _insist(
    call: Callable[[], _T],
    *,
    on: type[Exception] | tuple[type[Exception], ...] = (StoreUnreachable, StorageFull),
    check: Callable[[], None] = lambda: None,
) -> _T:
    """Call the store until it answers: a finished video must not be lost to a store that restarts.

    `on` is what it goes on after; `check` may raise between two calls.
    """
    deadline = time.monotonic() + _INSIST_SECONDS
    wait_seconds = 0.1
    while True:
        try:
            return call()
        except on as error:
            if time.monotonic() + wait_seconds > deadline:
                raise
            log.warning("the store is away, trying again", error=str(error), wait_seconds=wait_seconds)
        time.sleep(wait_seconds)
        check()
        wait_seconds = min(0.5, wait_seconds * 2)  # to be there before the reaper is
