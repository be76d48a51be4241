"""Frames to an mp4 that plays everywhere: H.264, yuv420p, BT.709 limited range, moov first, constant rate.

The same frames give the same bytes with the same PyAV wheel, however many cores the machine has: threads are
a fixed number, x264 and swscale are held to their exact code paths, and the file carries no dates.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)

from workers.atomic import replacing

Frame = npt.NDArray[np.uint8]

# x264's output depends on its number of threads, so it may not follow the machine's cores.
_ENCODER_THREADS = 4
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INP


@dataclass(frozen=True)
class VideoInfo:
    """What was written: size in pixels, rate in frames per second, the file's size and its SHA-256 in hex."""

    num_frames: int
    width: int
    height: int
    fps: int
    duration_seconds: float
    bytes: int
    sha256: str


def check_frame(frame: Frame) -> tuple[int, int]:
    """Return (width, height) of a frame.

    Raises ValueError unless the frame is a non-empty uint8 array of shape (height, width, 3).
    """
    if frame.dtype != np.uint8:
        raise ValueError(f"frame: dtype must be uint8, not {frame.dtype}")
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"frame: shape must be (height, width, 3), not {frame.shape}")
    return frame.shape[1], frame.shape[0]


def encode_mp4(frames: Iterable[Frame], path: Path, *, fps: int, crf: int = 18) -> VideoInfo:
    """Encode RGB frames, uint8 of shape (height, width, 3), into `path` and return what was written.

    Frames are taken one at a time, in the caller's thread, and none is kept. Conversion, encoding, writing
    and hashing release the GIL. `path` appears only when the whole file is on disk; on any
    error nothing is left behind and an older file at `path` stays. `crf` is x264's rate factor, 1 (best) to
    51; 0 is refused because x264 then switches to a profile that browsers do not play.

    Raises ValueError for no frames, a wrong dtype or shape, a size that changes or is odd (yuv420p halves
    both sides), or `fps` or `crf` outside its limits; OSError when the file cannot be written.
    """
    if fps < 1:
        raise ValueError(f"fps: must be at least 1, not {fps}")
    if not 1 <= crf <= 51:
        raise ValueError(f"crf: must be from 1 to 51, not {crf}")
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise ValueError("frames: at least one is needed")
    width, height = check_frame(first)
    if width % 2 or height % 2:
        raise ValueError(f"frame: width and height must be even, not {width}x{height}")

    with replacing(path) as temporary:
        same_size = _same_size(itertools.chain([first], remaining), (width, height))
        num_frames = _write(same_size, temporary, (width, height), fps, crf)
        with temporary.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = temporary.stat().st_size
    return VideoInfo(num_frames, width, height, fps, num_frames / fps, size_bytes, sha256)


def _same_size(frames: Iterable[Frame], size: tuple[int, int]) -> Iterator[Frame]:
    for index, frame in enumerate(frames):
        if check_frame(frame) != size:
            raise ValueError(f"frame {index}: shape {frame.shape} differs from the first, {size[0]}x{size[1]}")
        yield frame


def _write(frames: Iterable[Frame], path: Path, size: tuple[int, int], fps: int, crf: int) -> int:
    """Mux all frames into the file at `path`; return their number."""
    # faststart rewrites the file at the end, so it needs a real one; bitexact leaves out dates and versions.
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    num_frames = 0
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = _add_stream(container, size, fps, crf)
        reformatter = VideoReformatter()
        for frame in frames:
            picture = _to_yuv(reformatter, frame)
            picture.pts = num_frames
            picture.time_base = Fraction(1, fps)
            container.mux(stream.encode(picture))
            num_frames += 1
        container.mux(stream.encode(None))
    return num_frames


def _add_stream(container: Any, size: tuple[int, int], fps: int, crf: int) -> Any:
    encoder = {"crf": str(crf), "preset": "medium", "profile": "high", "x264-params": "cpu-independent=1"}
    stream = container.add_stream("libx264", rate=fps, options=encoder)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = _ENCODER_THREADS
    # The tags that say what _to_yuv did. Tags without the conversion, or the reverse, cost about 10 dB.
    stream.color_range = ColorRange.MPEG
    stream.colorspace = Colorspace.ITU709
    stream.color_primaries = ColorPrimaries.BT709
    stream.color_trc = ColorTrc.BT709
    return stream


def _to_yuv(reformatter: Any, frame: Frame) -> Any:
    """Convert one RGB frame to yuv420p by the BT.709 matrix in limited range, the same on every CPU."""
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    return reformatter.reformat(
        picture,
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        dst_color_primaries=ColorPrimaries.BT709,
        dst_color_trc=ColorTrc.BT709,
        interpolation=_EXACT,
        threads=1,
    )
