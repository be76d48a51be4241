"""The preview: a small, deterministic animated WebP that loops, there whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.preview import MAX_FRAMES, PreviewMaker
from workers.video import Frame


def grey(level: int, width: int = 64, height: int = 48) -> Frame:
    return np.full((height, width, 3), level, dtype=np.uint8)


def write_preview(frames: list[Frame], path: Path, *, fps: int) -> None:
    maker = PreviewMaker(len(frames), fps=fps)
    for frame in frames:
        maker.add(frame)
    maker.write(path)


def shown(path: Path) -> tuple[list[int], list[int]]:
    """The mean grey level of each picture, and the milliseconds that it is shown for."""
    levels, durations = [], []
    with Image.open(path) as image:
        for index in range(image.n_frames):  # type: ignore[attr-defined]  # of an animated file
            image.seek(index)
            levels.append(round(float(np.asarray(image.convert("RGB")).mean())))
            durations.append(image.info["duration"])
    return levels, durations


def test_it_is_an_animation_that_loops(tmp_path: Path) -> None:
    write_preview([grey(20), grey(200)], tmp_path / "p.webp", fps=8)
    with Image.open(tmp_path / "p.webp") as image:
        assert (image.format, image.size, image.info["loop"]) == ("WEBP", (64, 48), 0)
        assert image.is_animated  # type: ignore[attr-defined]  # of an animated file


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(1280, 704, (256, 141)), (704, 1280, (141, 256)), (64, 48, (64, 48)), (256, 256, (256, 256))],
)
def test_longer_side_is_bounded_and_never_enlarged(
    tmp_path: Path, width: int, height: int, expected: tuple[int, int]
) -> None:
    write_preview([grey(90, width, height)] * 2, tmp_path / "p.webp", fps=8)
    with Image.open(tmp_path / "p.webp") as image:
        assert image.size == expected


@pytest.mark.parametrize(("num_frames", "step"), [(2, 1), (16, 1), (32, 2), (64, 4)])
def test_frames_are_spread_evenly(tmp_path: Path, num_frames: int, step: int) -> None:
    levels = [53 * index % 240 for index in range(num_frames)]  # neighbours that no encoder takes for one
    write_preview([grey(level) for level in levels], tmp_path / "p.webp", fps=10)
    seen, durations = shown(tmp_path / "p.webp")
    assert np.abs(np.subtract(seen, levels[::step])).max() <= 2
    assert durations == [100 * step] * (num_frames // step)


@pytest.mark.parametrize(("num_frames", "fps"), [(17, 7), (24, 30), (100, 60)])
def test_it_lasts_as_long_as_the_video(tmp_path: Path, num_frames: int, fps: int) -> None:
    write_preview([grey(53 * index % 240) for index in range(num_frames)], tmp_path / "p.webp", fps=fps)
    levels, durations = shown(tmp_path / "p.webp")
    assert len(levels) == MAX_FRAMES
    assert sum(durations) == round(1000 * num_frames / fps)
    assert max(durations) - min(durations) <= 1000 / fps + 2  # each end is rounded


def test_a_frames_array_may_be_used_again(tmp_path: Path) -> None:
    maker, frame = PreviewMaker(3, fps=8), grey(0)
    for level in (10, 100, 200):
        frame[:] = level
        maker.add(frame)
    maker.write(tmp_path / "p.webp")
    assert np.abs(np.subtract(shown(tmp_path / "p.webp")[0], (10, 100, 200))).max() <= 2


def test_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (5, 300, 200, 3), dtype=np.uint8)
    for name in ("a.webp", "b.webp"):
        write_preview(list(noise), tmp_path / name, fps=8)
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.webp", "b.webp"]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "num_frames: must be at least 1"),
        ([grey(1).astype(np.float32)], "dtype must be uint8"),
        ([grey(1)[:, :, 0]], "shape must be"),
        ([grey(1), grey(1, 32)], "same size"),
    ],
)
def test_bad_frames_are_refused_and_leave_nothing(tmp_path: Path, frames: list[Frame], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_preview(frames, tmp_path / "p.webp", fps=8)
    assert list(tmp_path.iterdir()) == []


def test_another_number_of_frames_than_announced_is_refused(tmp_path: Path) -> None:
    maker = PreviewMaker(2, fps=8)
    maker.add(grey(1))
    with pytest.raises(ValueError, match="2 are needed, not 1"):
        maker.write(tmp_path / "p.webp")
    maker.add(grey(2))
    with pytest.raises(ValueError, match="the video has 2"):
        maker.add(grey(3))
    with pytest.raises(ValueError, match="fps"):
        PreviewMaker(2, fps=0)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_keeps_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.webp"
    path.write_bytes(b"older")

    def fail(image: Image.Image, file: Path, **options: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        write_preview([grey(1), grey(2)], path, fps=8)
    assert [found.name for found in tmp_path.iterdir()] == ["p.webp"]
    assert path.read_bytes() == b"older"
