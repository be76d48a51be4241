"""Fit the caller's image to the frame: scale, then cut the middle out, with Pillow.

The pixels of diffusers' I2VGenXLPipeline wherever it covers the frame. Its floor division of floats leaves the scaled
image a pixel short for about a third of all sizes, and the frame with a black edge; here the image always covers it.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

# An image this many times wider (or taller) than the frame is cut before it is scaled: scaling first, as the
# stock pipeline does, turns 16384x1 pixels into gigabytes.
_ELONGATED = 16


def center_crop(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale `image` (RGB) by one factor until it covers `width` x `height` pixels, and keep the middle."""
    image = _trim(image, width, height)
    scale = min(image.width / width, image.height / height)
    scaled = (max(width, int(image.width // scale)), max(height, int(image.height // scale)))
    image = image.resize(scaled, resample=Image.Resampling.BOX)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def to_unit_array(image: Image.Image) -> np.ndarray:
    """An RGB image as float32 of shape (1, 3, height, width), values 0 to 1."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
    return pixels.transpose(2, 0, 1)[None]


def _trim(image: Image.Image, width: int, height: int) -> Image.Image:
    widest = max(1, _ELONGATED * image.height * width // height)
    tallest = max(1, _ELONGATED * image.width * height // width)
    if image.width <= widest and image.height <= tallest:
        return image
    keep = (min(image.width, widest), min(image.height, tallest))
    left, top = (image.width - keep[0]) // 2, (image.height - keep[1]) // 2
    return image.crop((left, top, left + keep[0], top + keep[1]))
