"""The small moving picture that stands for a video in a list: an animated WebP that loops and lasts as long."""

import itertools
from pathlib import Path

from PIL import Image

from workers.atomic import replacing
from workers.video import Frame, check_frame

MAX_FRAMES = 16
MAX_SIDE = 256
_QUALITY = 60  # Pillow's scale of 0 to 100: no visible blocks at this size


class PreviewMaker:
    """Takes all frames of a video as they pass, and keeps at most `MAX_FRAMES` of them: evenly spread, and shrunk.

    `fps` is the video's, in frames per second. Raises ValueError for a `num_frames` or an `fps` under 1. Not
    thread-safe.
    """

    def __init__(self, num_frames: int, *, fps: int) -> None:
        if num_frames < 1:
            raise ValueError(f"num_frames: must be at least 1, not {num_frames}")
        if fps < 1:
            raise ValueError(f"fps: must be at least 1, not {fps}")
        count = min(num_frames, MAX_FRAMES)
        self._num_frames = num_frames
        self._fps = fps
        self._wanted = [index * num_frames // count for index in range(count)]
        self._kept: list[Image.Image] = []
        self._seen = 0

    def add(self, frame: Frame) -> None:
        """Take the next frame, RGB uint8 of shape (height, width, 3); its array may be used again afterwards.

        Raises ValueError for a wrong dtype or shape, or for a frame after the last.
        """
        check_frame(frame)
        if self._seen == self._num_frames:
            raise ValueError(f"frame {self._seen}: the video has {self._num_frames}")
        if self._seen in self._wanted:
            image = Image.fromarray(frame)
            image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
            self._kept.append(image)
        self._seen += 1

    def write(self, path: Path) -> None:
        """Write the preview to `path`, no side of it longer than `MAX_SIDE`; encoding releases the GIL.

        The same frames give the same bytes with the same Pillow. `path` appears only when whole. Raises ValueError
        unless all frames were added and have one size, OSError when the file cannot be written.
        """
        if self._seen != self._num_frames:
            raise ValueError(f"frames: {self._num_frames} are needed, not {self._seen}")
        first, *others = self._kept
        if any(image.size != first.size for image in others):
            raise ValueError("frames: all must have the same size")
        with replacing(path) as temporary:
            first.save(
                temporary,
                format="WEBP",
                save_all=True,
                append_images=others,
                duration=self._durations(),
                loop=0,  # for ever
                quality=_QUALITY,
            )

    def _durations(self) -> list[int]:
        """Milliseconds of each kept frame: until the next one comes in the video."""
        starts = [round(1000 * index / self._fps) for index in (*self._wanted, self._num_frames)]
        return [end - start for start, end in itertools.pairwise(starts)]
