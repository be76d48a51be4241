"""Uploaded images: decided by decoding, never by name or header, and made into one plain form.

What a worker sees is a PNG in RGB, upright, opaque and without metadata, whatever came in.
"""

import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from app.errors import RequestError

FORMATS = ("PNG", "JPEG", "WEBP")
MIN_SIDE_PIXELS = 16
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
_PNG_END = b"IEND\xaeB`\x82"
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def use_pixel_limit(max_pixels: int) -> None:
    """Let Pillow, for the whole process, refuse to open images above `max_pixels`; by itself it would only warn."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def normalise(data: bytes, target: Path, *, max_pixels: int) -> None:
    """Decode `data` and write it to `target` as an RGB PNG. Slow: seconds for the largest; call it in a thread.

    Raises `RequestError`: 415 `not_an_image`; 413 `too_many_pixels`, before decoding; 422 `image_too_small`,
    `animated_image` or `corrupt_image`.
    """
    image = _open(data, max_pixels)
    _check_shape(image, max_pixels)
    if image.format == "PNG" and _PNG_END not in data:  # Pillow is content once it has all pixels
        raise _corrupt("truncated")
    try:
        image.load()
        plain = _plain(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow's decoders raise whatever a broken file trips over
        raise _corrupt(_reason(error)) from error
    # A new image: text, profiles and EXIF of the upload stay behind.
    clean = Image.new("RGB", plain.size)
    clean.paste(plain)
    clean.save(target, format="PNG", compress_level=1)


def _open(data: bytes, max_pixels: int) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(max_pixels) from None
    except Exception as error:  # Pillow's parsers raise whatever a broken header trips over
        if data.startswith(_MAGIC):
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
    # MPO is a JPEG with further pictures behind it, as many phones write; the first is the photo.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise RequestError(422, "animated_image", "image must be a still image, not an animation", field="image")


def _plain(image: Image.Image) -> Image.Image:
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
