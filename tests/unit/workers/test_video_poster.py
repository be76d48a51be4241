"""The poster: a small, deterministic JPEG of one frame, there whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.poster import write_poster
from workers.video import Frame


def halves(width: int, height: int) -> Frame:
    """Left half orange, right half blue."""
    frame = np.empty((height, width, 3), dtype=np.uint8)
    frame[:, : width // 2] = (230, 120, 20)
    frame[:, width // 2 :] = (20, 60, 200)
    return frame


@pytest.mark.parametrize(
    ("width", "height", "max_side", "expected"),
    [
        (1280, 704, 512, (512, 282)),
        (704, 1280, 512, (282, 512)),
        (64, 48, 512, (64, 48)),
        (64, 64, 1, (1, 1)),
    ],
)
def test_longer_side_is_bounded_and_never_enlarged(
    tmp_path: Path, width: int, height: int, max_side: int, expected: tuple[int, int]
) -> None:
    write_poster(halves(width, height), tmp_path / "p.jpg", max_side=max_side)
    with Image.open(tmp_path / "p.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", expected)


def test_picture_is_the_frame(tmp_path: Path) -> None:
    write_poster(halves(640, 320), tmp_path / "p.jpg", max_side=320)
    with Image.open(tmp_path / "p.jpg") as image:
        pixels = np.asarray(image).astype(int)
    assert np.abs(pixels[80, 40] - (230, 120, 20)).max() <= 4
    assert np.abs(pixels[80, 280] - (20, 60, 200)).max() <= 4


def test_same_frame_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        write_poster(halves(640, 320), tmp_path / name)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpg", "b.jpg"]


def test_bad_input_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype"):
        write_poster(halves(64, 64).astype(np.float64), tmp_path / "p.jpg")
    with pytest.raises(ValueError, match="max_side"):
        write_poster(halves(64, 64), tmp_path / "p.jpg", max_side=0)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_keeps_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.jpg"
    path.write_bytes(b"older")

    def fail(image: Image.Image, file: Path, **options: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        write_poster(halves(64, 64), path)
    assert [p.name for p in tmp_path.iterdir()] == ["p.jpg"]
    assert path.read_bytes() == b"older"
