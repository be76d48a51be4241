"""What the mp4 holds: its shape and rate, its colours, its layout; the same frames give the same file."""

import hashlib
import itertools
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from workers.video import Frame, VideoInfo, encode_mp4

PATCHES = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (0, 255, 255),
    (255, 0, 255),
    (128, 128, 128),
    (200, 120, 60),
    (0, 0, 0),
    (255, 255, 255),
]


def gradient(width: int, height: int, shift: int = 0) -> Frame:
    """A smooth picture in which every channel varies, moved by `shift` grey levels."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = x * 200 / width + shift, y * 200 / height + shift
    return np.stack([red, green, 220 - (red + green) / 2], axis=-1).astype(np.uint8)


def decode(path: Path) -> list[Frame]:
    """Decode as a player does: by the tags the file carries."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def psnr(expected: Frame, actual: Frame) -> float:
    error = np.mean((expected.astype(np.float64) - actual) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def top_boxes(path: Path) -> list[str]:
    """Names of the file's outermost boxes, in order (ISO/IEC 14496-12, section 4.2)."""
    data, names, offset = path.read_bytes(), [], 0
    while offset < len(data):
        size, name = struct.unpack_from(">I4s", data, offset)
        names.append(name.decode())
        offset += size
    assert offset == len(data)
    return names


def test_shape_rate_and_record_agree_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    info = encode_mp4([gradient(96, 64, i) for i in range(12)], path, fps=8)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (96, 64, 12)
        assert stream.average_rate == stream.base_rate == 8
        assert container.duration == 1_500_000
        assert len(container.streams) == 1
    assert times == [i / 8 for i in range(12)]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert info == VideoInfo(12, 96, 64, 8, 1.5, path.stat().st_size, digest)


def test_colour_tags_are_bt709_limited_in_stream_and_container(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode_mp4([gradient(64, 64)], path, fps=8)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert context.color_range == ColorRange.MPEG
        assert context.colorspace == Colorspace.ITU709
        assert context.color_primaries == ColorPrimaries.BT709
        assert context.color_trc == ColorTrc.BT709
    # colr box of type nclx: primaries 1, transfer 1, matrix 1, full range flag 0.
    assert b"colrnclx" + struct.pack(">HHHB", 1, 1, 1, 0) in path.read_bytes()


@pytest.mark.parametrize("colour", PATCHES)
def test_flat_colours_come_back(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    frame = np.full((64, 64, 3), colour, dtype=np.uint8)
    encode_mp4([frame] * 3, tmp_path / "clip.mp4", fps=8)
    for decoded in decode(tmp_path / "clip.mp4"):
        assert psnr(frame, decoded) > 35


def test_moving_gradients_come_back_and_differ(tmp_path: Path) -> None:
    frames = [gradient(128, 96, 3 * i) for i in range(10)]
    encode_mp4(frames, tmp_path / "clip.mp4", fps=8)
    decoded = decode(tmp_path / "clip.mp4")
    assert all(psnr(a, b) > 35 for a, b in zip(frames, decoded, strict=True))
    assert all(frame.std() > 20 for frame in decoded)
    assert all((a != b).any() for a, b in itertools.pairwise(decoded))


def test_moov_comes_before_mdat(tmp_path: Path) -> None:
    encode_mp4([gradient(64, 64)], tmp_path / "clip.mp4", fps=8)
    boxes = top_boxes(tmp_path / "clip.mp4")
    assert boxes[0] == "ftyp"
    assert boxes.index("moov") < boxes.index("mdat")


def test_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    # Tall, because x264 caps its threads by the rows of a frame; on one core it would choose another number.
    noise = np.random.default_rng(1).integers(0, 256, (4, 512, 64, 3), dtype=np.uint8)
    first = encode_mp4(list(noise), tmp_path / "a.mp4", fps=8)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        second = encode_mp4(list(noise), tmp_path / "b.mp4", fps=8)
    finally:
        os.sched_setaffinity(0, cores)
    assert first == second
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_no_dates_and_no_muxer_name(tmp_path: Path) -> None:
    encode_mp4([gradient(64, 64)], tmp_path / "clip.mp4", fps=8)
    data = (tmp_path / "clip.mp4").read_bytes()
    creation, modification = struct.unpack_from(">II", data, data.index(b"mvhd") + 8)
    assert (creation, modification) == (0, 0)
    assert b"Lavf" not in data


def test_frames_are_taken_one_by_one_and_their_array_may_be_used_again(tmp_path: Path) -> None:
    def frames() -> Iterator[Frame]:
        frame = np.empty((64, 64, 3), dtype=np.uint8)
        for i in range(4):
            frame[:] = 60 * i
            yield frame

    encode_mp4(frames(), tmp_path / "clip.mp4", fps=8)
    assert [round(float(frame.mean()) / 60) for frame in decode(tmp_path / "clip.mp4")] == [0, 1, 2, 3]


def test_one_frame_and_a_strided_view_are_enough(tmp_path: Path) -> None:
    wide = gradient(128, 64)
    view = wide[:, ::2]
    info = encode_mp4([view], tmp_path / "clip.mp4", fps=1)
    assert (info.num_frames, info.width, info.duration_seconds) == (1, 64, 1.0)
    assert psnr(view, decode(tmp_path / "clip.mp4")[0]) > 35


def test_lower_crf_is_closer_to_the_source(tmp_path: Path) -> None:
    frame = gradient(64, 64)
    fine = encode_mp4([frame], tmp_path / "fine.mp4", fps=8, crf=5)
    coarse = encode_mp4([frame], tmp_path / "coarse.mp4", fps=8, crf=45)
    assert fine.bytes > coarse.bytes
    assert psnr(frame, decode(tmp_path / "fine.mp4")[0]) > psnr(frame, decode(tmp_path / "coarse.mp4")[0])
