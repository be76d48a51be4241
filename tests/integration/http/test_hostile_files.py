"""Files that were made to do harm, or were never images: each has its answer, and leaves no file and no row."""

import bz2
import gzip
import io
import struct
import subprocess
import tarfile
import zipfile
import zlib
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.http import Site, check_problem, has_only_pixels, picture

NOT_AN_IMAGE, CORRUPT, ANIMATED = (415, "not_an_image"), (422, "corrupt_image"), (422, "animated_image")
TOO_SMALL, TOO_MANY_PIXELS, TOO_MANY_SCANS = (422, "image_too_small"), (413, "too_many_pixels"), (422, "too_many_scans")
TOO_MANY_PARTS = (422, "too_many_parts")


def png(*chunks: tuple[bytes, bytes], size: tuple[int, int] = (64, 64), depth: int = 8, colour: int = 0) -> bytes:
    """Return a PNG of these chunks after its header."""
    header = (b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (header, *chunks)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def zeros(length: int) -> bytes:
    """Return the smallest zlib stream of so many zeros; ten thousand to one at best."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(2**20)) for _ in range(length // 2**20)]
    return b"".join([*parts, packer.compress(bytes(length % 2**20)), packer.flush()])


def image_of(kind: str, size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def frames(kind: str) -> bytes:
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    file = io.BytesIO()
    first.save(file, kind, save_all=True, append_images=[second], duration=100)
    return file.getvalue()


def sized_jpeg(width: int, height: int) -> bytes:
    """Return a small JPEG that says it has other sides."""
    data = bytearray(picture("JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def sized_webp(width: int, height: int) -> bytes:
    data = bytearray(picture("WEBP", lossless=True))
    bits = struct.unpack_from("<I", data, 21)[0] >> 28 << 28 | (height - 1) << 14 | (width - 1)
    struct.pack_into("<I", data, 21, bits)
    return bytes(data)


def many_scans() -> bytes:
    data = picture("JPEG", (512, 512), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 2000 + data[-2:]


def with_text(**options: Any) -> bytes:
    info = PngInfo()
    info.add_text("k", "x" * 20_000_000, zip=True, **options)
    return picture(pnginfo=info)


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("image.png", picture())
    else:
        with tarfile.open(fileobj=file, mode="w") as packed_tar:
            packed_tar.addfile(tarfile.TarInfo("image.png"))
    return file.getvalue()


def zip_file() -> bytes:
    return archive("zip")


PNG, JPEG, WEBP = (picture(kind, (96, 64)) for kind in ("PNG", "JPEG", "WEBP"))
IMAGE_DATA = (b"IDAT", zlib.compress(bytes(65 * 64)))
END = (b"IEND", b"")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(/etc/passwd) (r) file\nshowpage\n%%EOF\n"
SVG = b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><text>&a;</text></svg>'  # noqa: E501

REFUSED: dict[str, tuple[bytes, tuple[int, str]]] = {
    # Bombs.
    "png of 900 million zeros": (png((b"IDAT", zeros(30_000 * 30_001)), END, size=(30_000, 30_000)), TOO_MANY_PIXELS),
    "png that says so only": (png(END, size=(2**31 - 1, 2**31 - 1)), TOO_MANY_PIXELS),
    "png whose pixels unpack to more than it has": (png((b"IDAT", zeros(50_000_000))), CORRUPT),
    "jpeg with huge sides and little data": (sized_jpeg(65_535, 65_535), TOO_MANY_PIXELS),
    "webp with huge sides": (sized_webp(16_384, 16_384), TOO_MANY_PIXELS),
    "text that unpacks to much": (with_text(), CORRUPT),
    "international text that unpacks to much": (
        png((b"iTXt", b"k\0\1\0\0\0" + zeros(20_000_000)), IMAGE_DATA, END), CORRUPT),
    "profile that unpacks to much": (png((b"iCCP", b"p\0\0" + zeros(20_000_000)), IMAGE_DATA, END), CORRUPT),
    "two thousand scans": (many_scans(), TOO_MANY_SCANS),
    "many profiles": (png(*[(b"iCCP", b"p\0\0" + zeros(900_000))] * 2000, IMAGE_DATA, END), TOO_MANY_PARTS),
    "many empty chunks": (png(*[(b"prVt", b"")] * 20_000, IMAGE_DATA, END), TOO_MANY_PARTS),
    "many empty pieces of pixels": (png(*[(b"IDAT", b"")] * 20_000, IMAGE_DATA, END), TOO_MANY_PARTS),
    "jpeg of empty comments": (JPEG[:2] + b"\xff\xfe\0\2" * 100_000 + JPEG[2:], TOO_MANY_PARTS),
    "jpeg of empty segments": (JPEG[:2] + b"\xff\xe1\0\2" * 100_000 + JPEG[2:], TOO_MANY_PARTS),
    "jpeg of fill bytes": (JPEG[:2] + b"\xff" * 1_000_000 + JPEG[2:], TOO_MANY_PARTS),
    "webp of empty chunks": (WEBP + b"abcd\0\0\0\0" * 100_000, TOO_MANY_PARTS),
    # Animations.
    "animated png": (frames("PNG"), ANIMATED),
    "animated webp": (frames("WEBP"), ANIMATED),
    "animated gif": (frames("GIF"), NOT_AN_IMAGE),
    # Other formats.
    "svg": (SVG, NOT_AN_IMAGE),
    "html": (b"<!doctype html><script>alert(1)</script>", NOT_AN_IMAGE),
    "xml": (b'<?xml version="1.0"?><a/>', NOT_AN_IMAGE),
    "pdf": (image_of("PDF"), NOT_AN_IMAGE),
    "zip": (zip_file(), NOT_AN_IMAGE),
    "gzip": (gzip.compress(PNG), NOT_AN_IMAGE),
    "bzip2": (bz2.compress(PNG), NOT_AN_IMAGE),
    "tar": (archive("tar"), NOT_AN_IMAGE),
    "elf": (b"\x7fELF\2\1\1" + bytes(200), NOT_AN_IMAGE),
    "script": (b"#!/bin/sh\nid\n", NOT_AN_IMAGE),
    "gif": (image_of("GIF"), NOT_AN_IMAGE),
    "bmp": (image_of("BMP"), NOT_AN_IMAGE),
    "tiff": (image_of("TIFF"), NOT_AN_IMAGE),
    "ico": (image_of("ICO"), NOT_AN_IMAGE),
    "ppm, which is what the store has": (image_of("PPM"), NOT_AN_IMAGE),
    "eps": (EPS, NOT_AN_IMAGE),
    "mvg of ImageMagick": (b"push graphic-context\nimage over 0,0 0,0 'url:http://a/'", NOT_AN_IMAGE),
    "sound in a RIFF": (b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + bytes(28), CORRUPT),
    # Polyglots that begin as something else.
    "gif that is a script": (b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)", NOT_AN_IMAGE),
    "html before a png": (b"<html>" + PNG, NOT_AN_IMAGE),
    "zip before a jpeg": (zip_file() + JPEG, NOT_AN_IMAGE),
    # Sides.
    "0x0": (png((b"IDAT", zlib.compress(b"")), END, size=(0, 0)), CORRUPT),
    "0x64": (png((b"IDAT", zlib.compress(bytes(64))), END, size=(0, 64)), CORRUPT),
    "jpeg of no height": (sized_jpeg(64, 0), CORRUPT),
    "1x1": (image_of("PNG", (1, 1)), TOO_SMALL),
    "15x16": (image_of("PNG", (15, 16)), TOO_SMALL),
    "1 x very many": (image_of("PNG", (1, 30_000), "1"), TOO_SMALL),
    "16 x very many": (image_of("PNG", (16, 20_000), "1"), TOO_MANY_PIXELS),
    # Damage.
    "header only": (PNG[:33], CORRUPT),
    "no pixels": (png(END), CORRUPT),
    "wrong checksum": (PNG.replace(b"IDAT", b"IDAU", 1), CORRUPT),
    "impossible depth": (png(IMAGE_DATA, END, depth=3), CORRUPT),
    "impossible chunk length": (PNG[:33] + b"\xff\xff\xff\xfftEXt" + PNG[41:], CORRUPT),
    "empty": (b"", NOT_AN_IMAGE),
    "one byte": (b"\x89", NOT_AN_IMAGE),
    "zeros": (bytes(1000), NOT_AN_IMAGE),
}  # fmt: skip

EXIFS = {
    "all ones": b"\xff" * 60_000,
    "count beyond the end": b"MM\0*\0\0\0\x08\xff\xff",
    "offset to itself": b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0",
    "orientation 99": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",
    "orientation as a text": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0",
    "value of four thousand million bytes": b"MM\0*\0\0\0\x08\0\x01\x01\x0e\0\x02\xff\xff\xff\xff\0\0\0\x08\0\0\0\0",
    "nothing": b"",
    "half a header": b"MM",
}
WELCOME: dict[str, bytes] = {
    "16x16": image_of("PNG", (16, 16)),
    "cmyk": picture("JPEG", mode="CMYK"),
    "grey with alpha": picture(mode="LA"),
    "palette with transparency": picture(mode="P", transparency=0),
    "16 bits": picture(mode="I;16"),
    "one bit": picture(mode="1"),
    "phone's photo": frames("MPO"),
    "jpeg with less data than pixels": sized_jpeg(800, 600),  # a viewer shows what is there, and grey
    # Only the pixels are kept: what is behind them goes nowhere.
    "png with html behind it": PNG + b"<script>alert(1)</script>",
    "jpeg with a zip behind it": JPEG + zip_file(),
    "jpeg with a script in its comment": picture("JPEG", comment=b"*/alert(1)/*"),
    **{f"exif: {name}": picture("JPEG", exif=b"Exif\0\0" + exif) for name, exif in EXIFS.items()},
    **{f"exif in a png: {name}": png((b"eXIf", exif), IMAGE_DATA, END) for name, exif in EXIFS.items()},
}


@pytest.mark.parametrize(("data", "expected"), REFUSED.values(), ids=REFUSED)
async def test_refused(site: Site, monkeypatch: pytest.MonkeyPatch, data: bytes, expected: tuple[int, str]) -> None:
    def never(*args: object, **_: object) -> None:
        raise AssertionError(f"a process was started: {args}")

    monkeypatch.setattr(subprocess, "Popen", never)  # Ghostscript, say
    assert len(data) < site.settings.max_image_bytes
    body = check_problem(await site.post(data), *expected, "image")
    assert body["errors"][0]["field"] == "image"
    assert site.leftovers() == []


@pytest.mark.parametrize("data", WELCOME.values(), ids=WELCOME)
async def test_welcome(site: Site, data: bytes) -> None:
    answer = await site.post(data)
    assert answer.status_code == 202, answer.text
    key = site.stored(answer.json()["id"]).image_key
    stored = b"".join(site.scheduler.blobs.read(key, 0, 10**7))
    assert has_only_pixels(stored)
    assert list(site.temporary.iterdir()) == []


@pytest.mark.parametrize("whole", [PNG, JPEG, WEBP, picture("JPEG", (96, 64), progressive=True)], ids="pjwr")
async def test_cut_short(site: Site, whole: bytes) -> None:
    for tenths in range(1, 10):
        answer = await site.post(whole[: len(whole) * tenths // 10])
        check_problem(answer, 422, "corrupt_image", "image")
        assert site.leftovers() == []


async def test_names_and_types_mean_nothing(site: Site) -> None:
    for name, kind in (("a.svg", "image/svg+xml"), ("a.exe", "application/x-msdownload"), ("../../a", "text/html")):
        assert (await site.post(files={"image": (name, JPEG, kind)})).status_code == 202
    count = len(site.scheduler.queue.list_jobs())
    for name, kind in (("a.png", "image/png"), ("a.jpg", "image/jpeg")):
        check_problem(await site.post(files={"image": (name, SVG, kind)}), 415, "not_an_image")
    assert len(site.scheduler.queue.list_jobs()) == count
