"""The still picture that stands for a video before it plays."""

from pathlib import Path

from PIL import Image

from workers.atomic import replacing
from workers.video import Frame, check_frame

# Pillow's scale of 1 to 95: no visible blocks at poster size, about a tenth of a PNG.
_JPEG_QUALITY = 88


def write_poster(frame: Frame, path: Path, *, max_side: int = 512) -> None:
    """Write `frame`, RGB uint8 of shape (height, width, 3), as a JPEG no side of which exceeds `max_side`.

    A smaller frame keeps its size. The same frame gives the same bytes with the same Pillow. `path` appears
    only when whole. Raises ValueError for a wrong dtype or shape or a `max_side` under 1, OSError when the
    file cannot be written.
    """
    check_frame(frame)
    if max_side < 1:
        raise ValueError(f"max_side: must be at least 1, not {max_side}")
    image = Image.fromarray(frame)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    with replacing(path) as temporary:
        image.save(temporary, format="JPEG", quality=_JPEG_QUALITY, optimize=True)
