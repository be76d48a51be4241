"""Uploaded images: decided by decoding, never by name or header, and made into one plain form.

What a worker sees is RGB, upright, opaque and without metadata, whatever came in, in a file that is written anew:

- what was a JPEG as a JPEG, with the quantisation tables that it had: as small as it came, in a tenth of a PNG's time,
  and losing a fraction of what that compression had lost before;
- other images up to a megapixel as raw pixels (PPM), which cost next to nothing to write;
- larger ones as PNG, which bounds the disk they take.

Whatever else is in a file, before or behind the pixels, is not kept.
"""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from PIL import Image, JpegImagePlugin

from app.errors import RequestError
from app.parts import check_parts

FORMATS = ("PNG", "JPEG", "WEBP")
IN_MEMORY_BYTES = 2**20  # of an image's file; a larger one lies on disk
MIN_SIDE_PIXELS, MAX_SIDE_PIXELS = 16, 16_384
RAW_PIXELS = 2**20  # up to so many are stored as they are
_MAX_SCANS = 100  # each scan of a JPEG is work on the whole image, however few its bytes
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
_PNG_END = b"IEND\xaeB`\x82"
_TABLES, _COARSEST = 4, 255  # what a JPEG may have, and the largest step of its quantisation that all decoders know
_JPEG_SCAN = b"\xff\xda"
_CHUNK_BYTES = 256 * 1024
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Each large image may need 500 MB while it is decoded, and 120 MB until it is written.
_LARGE = threading.BoundedSemaphore(min(4, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class Compression:
    """How a JPEG was compressed: its quantisation tables, and Pillow's number of its chroma subsampling."""

    tables: list[list[int]]
    subsampling: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image: RGB, upright, without anything but its pixels; `compression` is that of a JPEG."""

    image: Image.Image
    compression: Compression | None = None

    @property
    def suffix(self) -> str:
        """What the name of its file ends in."""
        if self.compression is not None:
            return "jpg"
        return "png" if _is_large(self.image) else "ppm"

    def write(self, file: BinaryIO) -> None:
        """Write it to `file`, in the form that is stored."""
        if self.compression is not None:
            kept = self.compression
            self.image.save(file, format="JPEG", qtables=kept.tables, subsampling=kept.subsampling)
        elif _is_large(self.image):
            self.image.save(file, format="PNG", compress_level=1)
        else:
            self.image.save(file, format="PPM")


def use_pixel_limit(max_pixels: int) -> None:
    """Let Pillow, for the whole process, refuse to open images above `max_pixels`; by itself it would only warn."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    warnings.filterwarnings(
        "ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin"
    )  # of EXIF, which is not kept


@contextmanager
def decoded(file: BinaryIO, *, max_pixels: int) -> Iterator[Picture]:
    """Decode an uploaded file, and write the picture inside the block: few large ones are in memory at once.

    Slow: seconds for the largest, and others are waited for; call it in a thread. Raises `RequestError`: 415
    `not_an_image`; before any decoding 413 `too_many_pixels`, and 422 `too_many_parts`, `image_too_small`,
    `animated_image` or `too_many_scans`; 422 `corrupt_image`.
    """
    image = _looked_at(file, max_pixels)
    with _LARGE if _is_large(image) else nullcontext():
        picture = _decoded(image)
        del image  # an image with transparency would stay beside what was made of it
        yield picture


def png_of_ppm(data: bytes) -> bytes:
    """Return raw pixels as `Picture.write` stores them as a PNG: tens of milliseconds for a megapixel."""
    _, size, _, pixels = data.split(b"\n", 3)
    width, height = map(int, size.split())
    file = BytesIO()
    Image.frombytes("RGB", (width, height), pixels).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def _looked_at(file: BinaryIO, max_pixels: int) -> Image.Image:
    """Open a file and refuse what can be refused before decoding."""
    check_parts(file)
    image = _open(file, max_pixels)
    _check_shape(image, max_pixels)
    if image.format in ("JPEG", "MPO") and _count(file, _JPEG_SCAN, _MAX_SCANS) > _MAX_SCANS:
        raise RequestError(
            422, "too_many_scans", f"image must have at most {_MAX_SCANS} scans", field="image", limit=_MAX_SCANS
        )
    if image.format == "PNG" and not _count(file, _PNG_END, 0):  # Pillow is content once it has all pixels
        raise _corrupt("truncated")
    return image


def _decoded(image: Image.Image) -> Picture:
    try:
        image.load()
        compression = _compression(image)
        plain = _plain(_upright(image))
    except Exception as error:  # Pillow's decoders raise whatever a broken file trips over
        raise _corrupt(_reason(error)) from error
    plain.info.clear()  # text, profiles and EXIF of the upload stay behind
    return Picture(plain, compression)


def _is_large(image: Image.Image) -> bool:
    return image.width * image.height > RAW_PIXELS


def _compression(image: Image.Image) -> Compression | None:
    """How a colour JPEG is compressed, where Pillow can compress the same way; None for all others."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode != "RGB":
        return None
    tables = [list(image.quantization[number]) for number in sorted(image.quantization)]
    usual = 1 <= len(tables) <= _TABLES and all(1 <= step <= _COARSEST for table in tables for step in table)
    return Compression(tables, max(0, JpegImagePlugin.get_sampling(image))) if usual else None


def _open(file: BinaryIO, max_pixels: int) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(max_pixels) from None
    except Exception as error:  # Pillow's parsers raise whatever a broken header trips over
        file.seek(0)
        if file.read(max(map(len, _MAGIC))).startswith(_MAGIC):
            raise _corrupt(_reason(error)) from error
        raise RequestError(
            415, "not_an_image", f"image must be one of {', '.join(FORMATS)}, and is none of them", field="image"
        ) from None


def _check_shape(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise _too_many_pixels(max_pixels)
    if min(width, height) < MIN_SIDE_PIXELS:
        raise RequestError(
            422,
            "image_too_small",
            f"image must be at least {MIN_SIDE_PIXELS} pixels on each side, not {width}x{height}",
            field="image",
            limit=MIN_SIDE_PIXELS,
        )
    if max(width, height) > MAX_SIDE_PIXELS:
        raise RequestError(
            413,
            "too_many_pixels",
            f"image must be at most {MAX_SIDE_PIXELS} pixels on each side, not {width}x{height}",
            field="image",
            limit=MAX_SIDE_PIXELS,
        )
    # MPO is a JPEG with further pictures behind it, as many phones write; the first is the photo.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise RequestError(422, "animated_image", "image must be a still image, not an animation", field="image")


def _count(file: BinaryIO, what: bytes, enough: int) -> int:
    """How often `what` occurs in the file, or some number above `enough`; leaves the file where it was."""
    before = file.tell()
    file.seek(0)
    found, tail = 0, b""
    while found <= enough and (chunk := file.read(_CHUNK_BYTES)):
        found += (tail + chunk).count(what)
        tail = chunk[-(len(what) - 1) :]
    file.seek(before)
    return found


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  its parser raises whatever absurd EXIF trips over, and pixels are what counts
        turn = None
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode in _SIXTEEN_BIT:
        # Pillow would clip 16-bit values to 255 instead of scaling them.
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def _too_many_pixels(max_pixels: int) -> RequestError:
    return RequestError(
        413,
        "too_many_pixels",
        f"image must have at most {max_pixels} pixels (width x height)",
        field="image",
        limit=max_pixels,
    )


def _reason(error: Exception) -> str:
    return "truncated" if "truncated" in str(error).lower() else "damaged"


def _corrupt(reason: str) -> RequestError:
    return RequestError(422, "corrupt_image", f"image must be whole: this one is {reason}", field="image")
