"""Bad frames and full disks: one clear error, no file left, and an older file untouched."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from workers.video import Frame, encode_mp4

GOOD = np.full((64, 64, 3), 90, dtype=np.uint8)

# A process that may write at most 20 kB a file meets the same error path as one on a full disk.
LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from workers.video import encode_mp4
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).integers(0, 256, (20, 128, 128, 3), dtype=np.uint8)
try:
    encode_mp4(noise, Path(sys.argv[1]), fps=8)
except OSError as error:
    print("OSError", error.errno)
"""


def broken_generator() -> Iterator[Frame]:
    yield GOOD
    yield GOOD
    raise LookupError("decoder died")


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "at least one"),
        ([GOOD.astype(np.float32)], "dtype must be uint8, not float32"),
        ([GOOD[:, :, 0]], r"shape must be \(height, width, 3\), not \(64, 64\)"),
        ([np.zeros((64, 64, 4), np.uint8)], "shape must be"),
        ([np.zeros((0, 64, 3), np.uint8)], "shape must be"),
        ([GOOD[:63]], "even, not 64x63"),
        ([GOOD[:, :63]], "even, not 63x64"),
        ([GOOD, GOOD[:32]], "frame 1: shape .* differs from the first, 64x64"),
        ([GOOD, GOOD.astype(np.int16)], "dtype must be uint8, not int16"),
    ],
)
def test_bad_frames_are_refused_and_leave_nothing(tmp_path: Path, frames: list[Frame], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_mp4(frames, tmp_path / "clip.mp4", fps=8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("fps", "crf", "message"), [(0, 18, "fps"), (8, 0, "crf"), (8, 52, "crf")])
def test_limits_of_rate_and_quality(tmp_path: Path, fps: int, crf: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_mp4([GOOD], tmp_path / "clip.mp4", fps=fps, crf=crf)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_fails_midway_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"older")
    with pytest.raises(LookupError, match="decoder died"):
        encode_mp4(broken_generator(), path, fps=8)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    assert path.read_bytes() == b"older"


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        encode_mp4([GOOD], tmp_path / "none" / "clip.mp4", fps=8)


def test_a_file_that_cannot_grow_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["OSError", "27"], done.stderr  # EFBIG
    assert list(tmp_path.iterdir()) == []


def test_success_replaces_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"older")
    info = encode_mp4([GOOD], path, fps=8)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    assert path.stat().st_size == info.bytes > len(b"older")
