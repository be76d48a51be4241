import io
import struct
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat
from PIL.PngImagePlugin import PngInfo

from app import images
from app.errors import RequestError
from tests.support.http import has_only_pixels

LIMIT = 1_000_000


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def stored(data: bytes, max_pixels: int = LIMIT) -> bytes:
    file = io.BytesIO()
    with images.decoded(io.BytesIO(data), max_pixels=max_pixels) as picture:
        picture.write(file)
    return file.getvalue()


def normalised(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(stored(data)))
    given = Image.open(io.BytesIO(data))
    kept = "JPEG" if (given.format, given.mode) in {("JPEG", "RGB"), ("MPO", "RGB")} else "PPM"
    assert (image.format, image.mode) == (kept, "RGB")
    return image


def refusal(data: bytes, max_pixels: int = LIMIT) -> RequestError:
    with pytest.raises(RequestError) as caught, images.decoded(io.BytesIO(data), max_pixels=max_pixels):
        pass
    return caught.value


@pytest.mark.parametrize("kind", images.FORMATS)
def test_each_format_is_read(kind: str) -> None:
    image = normalised(file_of(Image.new("RGB", (32, 24), (200, 100, 50)), kind))
    assert image.size == (32, 24)
    pixel = image.getpixel((5, 5))
    assert isinstance(pixel, tuple)
    assert all(abs(got - put) <= 4 for got, put in zip(pixel, (200, 100, 50), strict=True))


def test_transparency_becomes_white() -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    image.putpixel((1, 1), (255, 0, 0, 255))
    image.putpixel((2, 2), (0, 0, 0, 128))
    plain = normalised(file_of(image))
    assert plain.getpixel((0, 0)) == (255, 255, 255)
    assert plain.getpixel((1, 1)) == (255, 0, 0)
    assert plain.getpixel((2, 2)) == (127, 127, 127)


def test_a_transparent_palette_becomes_white() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((3, 3), 1)
    plain = normalised(file_of(image, transparency=0))
    assert (plain.getpixel((0, 0)), plain.getpixel((3, 3))) == ((255, 255, 255), (255, 0, 0))


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    image = Image.new("I;16", (16, 16), 0)
    image.putpixel((1, 0), 32768)
    image.putpixel((2, 0), 65535)
    plain = normalised(file_of(image))
    assert [plain.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (127, 127, 127), (255, 255, 255)]


@pytest.mark.parametrize(("orientation", "size"), [(1, (32, 24)), (3, (32, 24)), (6, (24, 32)), (8, (24, 32))])
def test_the_camera_held_sideways_is_put_right(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert normalised(file_of(Image.new("RGB", (32, 24)), "JPEG", exif=exif.tobytes())).size == size


def test_a_phones_photo_with_pictures_behind_it_is_its_first() -> None:
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    data = file_of(first, "MPO", save_all=True, append_images=[second])
    pixel = normalised(data).getpixel((8, 8))
    assert isinstance(pixel, tuple)
    assert pixel[0] > 200


def test_nothing_but_pixels_is_kept() -> None:
    exif = Image.Exif()
    exif[0x010E] = "home address"
    data = file_of(Image.new("RGB", (16, 16)), "JPEG", exif=exif.tobytes(), comment="a comment", icc_profile=b"profile")
    assert has_only_pixels(stored(data))


def test_a_large_image_is_packed_and_has_nothing_but_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "RAW_PIXELS", 255)
    info = PngInfo()
    info.add_text("place", "home address")
    kept = stored(file_of(Image.new("RGB", (16, 16), "red"), pnginfo=info, icc_profile=b"profile", dpi=(9, 9)))
    chunks = [chunk for chunk in (b"tEXt", b"iCCP", b"pHYs", b"eXIf", b"IHDR", b"IDAT") if chunk in kept]
    assert chunks == [b"IHDR", b"IDAT"]


def test_the_same_image_gives_the_same_bytes() -> None:
    data = file_of(Image.linear_gradient("L"), "JPEG")
    assert stored(data) == stored(data)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_pixels_are_those_of_the_whole_file(kind: str) -> None:
    image = Image.merge("RGB", [Image.effect_noise((256, 200), 90) for _ in range(3)])
    data = file_of(image, kind)
    assert normalised(data).tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


@pytest.mark.parametrize(("quality", "subsampling"), [(60, 2), (75, 1), (93, 0), (100, 0)])
def test_a_jpeg_stays_as_good_and_as_small_as_it_came(quality: int, subsampling: int) -> None:
    scene = Image.effect_mandelbrot((256, 200), (-2, -1, 1, 1), 60)
    noisy = ImageChops.add(scene, Image.effect_noise(scene.size, 12), offset=-128)
    picture = Image.merge("RGB", [noisy, scene, ImageChops.invert(noisy)])
    data = file_of(picture, "JPEG", quality=quality, subsampling=subsampling)
    kept = stored(data)
    assert len(kept) < 1.05 * len(data)
    given, found = (Image.open(io.BytesIO(one)).convert("RGB") for one in (data, kept))
    assert difference(given, found) < max(1.0, 0.3 * difference(picture, given))


def difference(one: Image.Image, other: Image.Image) -> float:
    """The root of the mean square, in levels, of the colour that differs most."""
    return max(ImageStat.Stat(ImageChops.difference(one, other)).rms)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_jpeg_of_other_colours_becomes_rgb(mode: str) -> None:
    image = Image.open(io.BytesIO(stored(file_of(Image.new(mode, (32, 24)), "JPEG"))))
    assert (image.format, image.mode) == ("PPM", "RGB")


def test_pixels_are_counted_before_decoding() -> None:
    error = refusal(file_of(Image.new("L", (1000, 1001))))
    assert (error.status_code, error.code, error.limit) == (413, "too_many_pixels", LIMIT)
    stored(file_of(Image.new("L", (1000, 1000))))


def test_pillows_own_refusal_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = file_of(Image.new("L", (64, 64)))
    for limit in (4095, 100):  # a warning, then an error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert refusal(data, max_pixels=limit).code == "too_many_pixels"


def test_text_hidden_in_a_png_that_unpacks_to_much_is_refused() -> None:
    info = PngInfo()
    info.add_text("k", "x" * 2_000_000, zip=True)
    error = refusal(file_of(Image.new("RGB", (16, 16)), pnginfo=info))
    assert (error.status_code, error.code) == (422, "corrupt_image")


def test_every_cut_of_an_image_is_refused() -> None:
    for kind in images.FORMATS:
        data = file_of(Image.linear_gradient("L").resize((40, 30)).convert("RGB"), kind)
        for length in [*range(4, len(data) - 24, 7), *range(len(data) - 24, len(data))]:
            assert refusal(data[:length]).code == "corrupt_image", (kind, length)


@pytest.mark.parametrize("data", [b"", b"\x89", b"GIF89a", b"<svg/>", b"%PDF-1.7", b"\x00" * 1000])
def test_what_is_no_image_is_415(data: bytes) -> None:
    error = refusal(data)
    assert (error.status_code, error.code, error.field) == (415, "not_an_image", "image")


def progressive_with(scans: int) -> bytes:
    """A JPEG whose last scan comes again and again: each time the decoder goes over the whole image."""
    data = file_of(Image.effect_noise((64, 64), 50), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (scans - data.count(b"\xff\xda")) + b"\xff\xd9"


def test_scans_of_a_jpeg_are_counted_before_decoding() -> None:
    error = refusal(progressive_with(101))
    assert (error.status_code, error.code, error.limit) == (422, "too_many_scans", 100)
    assert stored(file_of(Image.new("RGB", (64, 64)), "JPEG", progressive=True))


@pytest.mark.parametrize("size", [(16, 16_385), (16_385, 16)])
def test_sides_are_limited(size: tuple[int, int]) -> None:
    error = refusal(file_of(Image.new("1", size)))
    assert (error.status_code, error.code, error.limit) == (413, "too_many_pixels", 16_384)


def test_four_inks_become_three_colours() -> None:
    for mode, white in (("CMYK", (0, 0, 0, 0)), ("CMYK", (0, 0, 0, 255))):
        pixel = normalised(file_of(Image.new(mode, (16, 16), white), "JPEG")).getpixel((8, 8))
        assert pixel == ((255, 255, 255) if white[3] == 0 else (0, 0, 0))


@pytest.mark.filterwarnings("ignore:.*EXIF")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0" + b"\xff" * 60_000, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"", b"Exif\0\0II"]
)
def test_absurd_exif_is_ignored(exif: bytes) -> None:
    assert normalised(file_of(Image.new("RGB", (32, 24)), "JPEG", exif=exif)).size == (32, 24)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(parts: bytes) -> bytes:
    """A PNG with chunks between its header and its pixels."""
    data = file_of(Image.new("RGB", (64, 64)))
    return data[:33] + parts + data[33:]


def jpeg_with(parts: bytes) -> bytes:
    data = file_of(Image.new("RGB", (64, 64)), "JPEG")
    return data[:2] + parts + data[2:]


def webp_with(parts: bytes) -> bytes:
    data = file_of(Image.new("RGB", (64, 64)), "WEBP") + parts
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


PROFILE = chunk(b"iCCP", b"p\0\0" + zlib.compress(b"x" * 1000))


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (png_with(chunk(b"prVt") * 1000), 1000),  # with its header
        (png_with(chunk(b"tEXt", b"a\0b") * 1000), 1000),
        (png_with(PROFILE * 2), 1),
        (png_with(chunk(b"IDAT") * 10_000), 10_000),
        (jpeg_with(b"\xff\xfe\0\2" * 1001), 1000),
        (jpeg_with(b"\xff\xe1\0\2" * 1001), 1000),
        (jpeg_with(b"\xff\xd0" * 1001), 1000),
        (jpeg_with((b"\xff\xed\1\0" + b"\xff\xda" * 127) * 1001), 1000),  # no scan begins inside of a segment
        (jpeg_with(b"\xff" * 65_537), 65_536),
        (jpeg_with(b"\0" * 65_537), 65_536),
        (jpeg_with(b"\xff\0" * 32_769), 65_536),
        (jpeg_with((b"\xff" * 700 + b"\xfe\0\2") * 100), 65_536),
        (webp_with(b"abcd\0\0\0\0" * 1001), 1000),
        (webp_with(b"abcd\1\0\0\0ab" * 1001), 1000),
    ],
)
def test_many_small_parts_are_refused_before_a_decoder_sees_them(
    monkeypatch: pytest.MonkeyPatch, data: bytes, limit: int
) -> None:
    def never(*_: object, **__: object) -> Image.Image:
        raise AssertionError("it was opened")

    monkeypatch.setattr(Image, "open", never)
    error = refusal(data)
    assert (error.status_code, error.code, error.field, error.limit) == (422, "too_many_parts", "image", limit)


@pytest.mark.parametrize(
    "data",
    [
        png_with(chunk(b"prVt") * 900 + PROFILE),
        png_with(chunk(b"tEXt", b"a\0" + bytes(1000))),
        jpeg_with(b"\xff\xfe\0\2" * 900),
        jpeg_with(b"\xff" * 60_000),
        jpeg_with(b"\xff\xec\xff\xff" + b"\xff" * 65_533),
        file_of(Image.new("RGB", (64, 64)), "JPEG") + b"\xff" * 100_000,
    ],
)
def test_an_image_of_some_parts_is_welcome(data: bytes) -> None:
    assert Image.open(io.BytesIO(stored(data))).size == (64, 64)


def test_as_many_large_pictures_as_there_are_permits_are_alive_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From before one is decoded until it is written; the threads that wait have none."""
    monkeypatch.setattr(images, "RAW_PIXELS", 255)
    monkeypatch.setattr(images, "_LARGE", threading.BoundedSemaphore(2))
    data = file_of(Image.new("RGB", (16, 16)))
    lock, alive, most = threading.Lock(), 0, 0
    load: Callable[..., Any] = images._plain

    def counted(image: Image.Image) -> Image.Image:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        plain: Image.Image = load(image)
        return plain

    monkeypatch.setattr(images, "_plain", counted)
    both = threading.Barrier(2)

    def take(_: int) -> None:
        nonlocal alive
        with images.decoded(io.BytesIO(data), max_pixels=LIMIT) as picture:
            both.wait(10)  # two do get here together
            picture.write(io.BytesIO())
            with lock:
                alive -= 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(take, range(8)))
    assert (most, alive) == (2, 0)


def test_a_permit_comes_back_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "RAW_PIXELS", 255)
    permits = threading.BoundedSemaphore(1)
    monkeypatch.setattr(images, "_LARGE", permits)
    data = file_of(Image.effect_noise((64, 64), 50).convert("RGB"))
    assert refusal(data[: len(data) // 2] + data[-12:]).code == "corrupt_image"
    with pytest.raises(OSError, match="full"), images.decoded(io.BytesIO(data), max_pixels=LIMIT):
        raise OSError("full")
    assert permits.acquire(blocking=False)
