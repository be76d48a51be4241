"""What is sent: whole requests as bytes, made once, so that sending them costs the client next to nothing."""

import base64
import io
import json
import random
from collections.abc import Mapping

from PIL import Image

_SIZE = (640, 480)
_BOUNDARY = "------------------------7d1f0a55b3c94e26"
PHOTO_BYTES = 100_000


def photograph() -> bytes:
    """Return a JPEG of 640x480 and about 100 KB, with detail at every scale as a photograph has."""
    noise = random.Random(0)  # noqa: S311  every run sends the same picture
    image = Image.new("RGB", _SIZE, (128, 128, 128))
    for octave, share in zip(range(2, 9), (0.9, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15), strict=True):
        size = (_SIZE[0] * 2**octave // 512, _SIZE[1] * 2**octave // 512)
        layer = Image.frombytes("RGB", size, noise.randbytes(size[0] * size[1] * 3))
        image = Image.blend(image, layer.resize(_SIZE, Image.Resampling.BICUBIC), share)
    files = (_jpeg(image, quality) for quality in range(98, 50, -1))
    return next(file for file in files if len(file) <= PHOTO_BYTES)


def small_picture() -> bytes:
    """Return a JPEG of a few hundred bytes, for jobs that only have to be there."""
    return _jpeg(Image.new("RGB", (64, 64), (40, 90, 160)), 80)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def request(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """Return a whole HTTP/1.1 request that keeps its connection."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *(f"{k}: {v}" for k, v in (headers or {}).items())]
    if method == "POST":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def form(path: str, prompt: str, image: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a POST of a multipart form with a prompt and a JPEG."""
    parts = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n{prompt}\r\n'
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = parts.encode() + image + f"\r\n--{_BOUNDARY}--\r\n".encode()
    kind = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
    return request("POST", path, {**(headers or {}), **kind}, body)


def as_json(path: str, prompt: str, image: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a POST of JSON with a prompt and a JPEG as a data URI."""
    uri = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
    body = json.dumps({"prompt": prompt, "image": uri}).encode()
    return request("POST", path, {**(headers or {}), "content-type": "application/json"}, body)
