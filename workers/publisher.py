"""Frames become a file, and the file a result, beside the GPU: the next job is running meanwhile."""

import queue
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import structlog

from scheduler import logs
from scheduler.blobs import BlobStore
from scheduler.errors import StoreUnreachable
from scheduler.records import Result
from scheduler.states import Stage
from workers.attempt import Attempt, Ending
from workers.control import Interrupted
from workers.endings import Endings, output_prefix
from workers.failures import describe, is_unexpected
from workers.insist import insist
from workers.poster import write_poster
from workers.preview import PreviewMaker
from workers.tracebacks import told
from workers.video import Frame, VideoInfo, encode_mp4

log = structlog.get_logger()

_WAITING_BYTES = 256 * 2**20  # frames between the GPU and the encoder, at most: then the GPU waits
_LOOK_SECONDS = 0.1
_THREADS = 16  # more than attempts can be open: none may wait for one that waits for the store


class Aborted(Exception):
    """The other side gave the video up."""


class FrameSink:
    """The way of one video's frames from the thread that decodes to the one that encodes.

    Whoever gives up first has the attempt to end: `abort` tells the decoder who that is.
    """

    def __init__(self, frame_bytes: int) -> None:
        self._frames: queue.Queue[Frame | None] = queue.Queue(max(2, _WAITING_BYTES // max(1, frame_bytes)))
        self._given_up = threading.Event()
        self._done = threading.Event()
        self.was_aborted = False

    def put(self, frame: Frame) -> None:
        """Hand over the next frame; waits while too many are on the way. Raises `Aborted` once the encoder failed."""
        if not self._put(frame):
            raise Aborted

    def end(self) -> None:
        """Say that this was the last frame."""
        self._put(None)

    def abort(self) -> bool:
        """Give the video up, and wait until nothing of it is left; False where the encoder has failed before."""
        self._given_up.set()
        self._done.wait()
        return self.was_aborted

    def frames(self) -> Iterator[Frame]:
        """The frames, for the encoder; raises `Aborted` after `abort`."""
        while True:
            if self._given_up.is_set():
                self.was_aborted = True
                raise Aborted
            try:
                frame = self._frames.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if frame is None:
                return
            yield frame

    def close(self) -> None:
        """Say that nobody reads any more."""
        self._done.set()

    def _put(self, frame: Frame | None) -> bool:
        while not self._done.is_set():
            try:
                self._frames.put(frame, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return True
        return False


class Publisher:
    """The threads that end attempts: with a video, or without."""

    def __init__(self, blobs: BlobStore, endings: Endings, *, scratch: Path, crf: int) -> None:
        self._blobs = blobs
        self._endings = endings
        self._scratch = scratch
        self._crf = crf
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="publisher")
        self._open: set[Future[None]] = set()

    def begin(self, attempt: Attempt) -> FrameSink:
        """Start to encode an attempt's video from the frames that will come; it ends the attempt, unless aborted."""
        sink = FrameSink(attempt.lease.params.width * attempt.lease.params.height * 3)
        self._submit(attempt, partial(self._publish, attempt, sink))
        return sink

    def end(self, attempt: Attempt, ending: Ending) -> None:
        """End an attempt that has made no video."""
        self._submit(attempt, partial(self._endings.ended, attempt, ending))

    def finish(self) -> None:
        """Wait until all that was begun is over."""
        wait(self._open)
        self._threads.shutdown()

    def _submit(self, attempt: Attempt, task: "partial[None]") -> None:
        future = self._threads.submit(_logged, attempt, task)
        self._open.add(future)
        future.add_done_callback(self._open.discard)

    def _publish(self, attempt: Attempt, sink: FrameSink) -> None:
        try:
            result = self._encode(attempt, sink)
        except Interrupted as interrupted:
            ending = Ending(cause=interrupted.cause, snapshot=attempt.snapshot())
        except Exception as error:  # noqa: BLE001  every failure becomes the attempt's outcome
            if sink.was_aborted:
                return  # the engine knows why, and ends the attempt or decodes again
            unexpected = told(error) if is_unexpected(error) else None
            ending = Ending(
                error=describe(error), stage=Stage.MUXING, snapshot=attempt.snapshot(), unexpected=unexpected
            )
        else:
            self._endings.succeeded(attempt, result)
            return
        finally:
            sink.close()
        self._endings.ended(attempt, ending)

    def _encode(self, attempt: Attempt, sink: FrameSink) -> Result:
        params = attempt.lease.params
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            video, poster, preview = (Path(folder) / name for name in ("video.mp4", "thumbnail.jpg", "preview.webp"))
            maker = PreviewMaker(params.num_frames, fps=params.target_fps)
            info = encode_mp4(_watched(sink.frames(), poster, maker), video, fps=params.target_fps, crf=self._crf)
            maker.write(preview)
            attempt.enter(Stage.MUXING)
            attempt.pulse.progress(attempt.scale.muxing())
            attempt.control.check_wanted()
            store = partial(self._store, attempt, info, video, poster, preview)
            return insist(store, on=StoreUnreachable, check=attempt.control.check)

    def _store(self, attempt: Attempt, info: VideoInfo, video: Path, poster: Path, preview: Path) -> Result:
        prefix = output_prefix(attempt)
        for path in (video, poster, preview):
            self._blobs.put_file(f"{prefix}/{path.name}", path)
        return Result(
            video_key=f"{prefix}/{video.name}",
            thumbnail_key=f"{prefix}/{poster.name}",
            bytes=info.bytes,
            sha256=info.sha256,
            width=info.width,
            height=info.height,
            num_frames=info.num_frames,
            fps=info.fps,
            duration_seconds=info.duration_seconds,
            preview_key=f"{prefix}/{preview.name}",
        )


def _watched(frames: Iterator[Frame], poster: Path, maker: PreviewMaker) -> Iterator[Frame]:
    """Pass the frames on, and keep what the poster and the preview need of them."""
    for count, frame in enumerate(frames):
        if count == 0:
            write_poster(frame, poster)
        maker.add(frame)
        yield frame


def _logged(attempt: Attempt, task: "partial[None]") -> None:
    with logs.about(attempt.lease):
        try:
            task()
        except Exception:  # the store could not be told: the lease runs out, and another attempt follows
            log.exception("an attempt's end could not be recorded")
