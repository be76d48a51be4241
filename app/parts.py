"""The parts that an image's file is made of, counted before any decoder sees it: each part is work, however small."""

import re
import struct
from collections import Counter
from os import SEEK_CUR
from typing import BinaryIO

from PIL.JpegImagePlugin import MARKER

from app.errors import RequestError

_MAX_PARTS = 1_000  # chunks or markers beside the pixels' own
_MAX_PIXEL_CHUNKS = 10_000  # of a PNG, whose pixels come in pieces of some KiB
_MAX_PROFILES = 1
_MAX_FILL_BYTES = 64 * 1024  # of a JPEG, between its markers
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_SCAN = 0xFFDA
_PIECE_BYTES = 1024


def check_parts(file: BinaryIO) -> None:
    """Raise `RequestError` 422 `too_many_parts` for an image in too many pieces; leaves the file at its start.

    What a part holds is not read, nor whether it may be there: what is broken or no image is the decoder's to refuse.
    """
    file.seek(0)
    head = file.read(12)
    if head.startswith(_PNG):
        _check_png(file)
    elif head.startswith(_JPEG):
        _check_jpeg(file)
    elif head.startswith(b"RIFF") and head.endswith(b"WEBP"):
        _check_webp(file)
    file.seek(0)


def _check_png(file: BinaryIO) -> None:
    found: Counter[bytes] = Counter()
    file.seek(len(_PNG))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return
        found[kind] += 1
        _at_most(_MAX_PROFILES, found[b"iCCP"], "colour profile")
        _at_most(_MAX_PIXEL_CHUNKS, found[b"IDAT"], "chunks of pixels")
        _at_most(_MAX_PARTS, found.total() - found[b"IDAT"], "chunks beside its pixels")
        file.seek(length + 4, SEEK_CUR)


def _check_webp(file: BinaryIO) -> None:
    found = 0
    while len(head := file.read(8)) == 8:
        _, length = struct.unpack("<4sI", head)
        found += 1
        _at_most(_MAX_PARTS, found, "chunks")
        file.seek(length + length % 2, SEEK_CUR)


def _check_jpeg(file: BinaryIO) -> None:
    """Go from marker to marker up to the first scan, as Pillow does; it looks at each byte between them on its own."""
    found = fill_bytes = 0
    file.seek(len(_JPEG))
    while len(piece := file.read(_PIECE_BYTES)) > 1:
        match = _MARKER.search(piece)
        fill_bytes += match.start() if match else len(piece) - 1
        _at_most(_MAX_FILL_BYTES, fill_bytes, "bytes between its markers")
        if match is None:
            file.seek(-1, SEEK_CUR)  # a marker may begin with the last byte
            continue
        file.seek(match.end() - len(piece), SEEK_CUR)
        code = int.from_bytes(match[0])
        if code == _SCAN or code not in MARKER:
            return
        found += 1
        _at_most(_MAX_PARTS, found, "markers")
        _, _, handler = MARKER[code]
        if handler is not None:  # it has a length, which counts its own two bytes
            file.seek(max(0, int.from_bytes(file.read(2)) - 2), SEEK_CUR)


def _at_most(limit: int, found: int, what: str) -> None:
    if found > limit:
        raise RequestError(
            422, "too_many_parts", f"the image's file must have at most {limit} {what}", field="image", limit=limit
        )
