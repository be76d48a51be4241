import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app import images
from app.errors import RequestError

LIMIT = 1_000_000


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "image.png"


def normalised(data: bytes, target: Path) -> Image.Image:
    images.normalise(data, target, max_pixels=LIMIT)
    image = Image.open(io.BytesIO(target.read_bytes()))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return image


def refusal(data: bytes, target: Path, max_pixels: int = LIMIT) -> RequestError:
    with pytest.raises(RequestError) as caught:
        images.normalise(data, target, max_pixels=max_pixels)
    assert not target.exists()
    return caught.value


@pytest.mark.parametrize("kind", images.FORMATS)
def test_each_format_is_read(kind: str, target: Path) -> None:
    image = normalised(file_of(Image.new("RGB", (32, 24), (200, 100, 50)), kind), target)
    assert image.size == (32, 24)
    pixel = image.getpixel((5, 5))
    assert isinstance(pixel, tuple)
    assert all(abs(got - put) <= 4 for got, put in zip(pixel, (200, 100, 50), strict=True))


def test_transparency_becomes_white(target: Path) -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    image.putpixel((1, 1), (255, 0, 0, 255))
    image.putpixel((2, 2), (0, 0, 0, 128))
    plain = normalised(file_of(image), target)
    assert plain.getpixel((0, 0)) == (255, 255, 255)
    assert plain.getpixel((1, 1)) == (255, 0, 0)
    assert plain.getpixel((2, 2)) == (127, 127, 127)


def test_a_transparent_palette_becomes_white(target: Path) -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((3, 3), 1)
    plain = normalised(file_of(image, transparency=0), target)
    assert (plain.getpixel((0, 0)), plain.getpixel((3, 3))) == ((255, 255, 255), (255, 0, 0))


def test_sixteen_bits_are_scaled_and_not_clipped(target: Path) -> None:
    image = Image.new("I;16", (16, 16), 0)
    image.putpixel((1, 0), 32768)
    image.putpixel((2, 0), 65535)
    plain = normalised(file_of(image), target)
    assert [plain.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (127, 127, 127), (255, 255, 255)]


@pytest.mark.parametrize(("orientation", "size"), [(1, (32, 24)), (3, (32, 24)), (6, (24, 32)), (8, (24, 32))])
def test_the_camera_held_sideways_is_put_right(orientation: int, size: tuple[int, int], target: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert normalised(file_of(Image.new("RGB", (32, 24)), "JPEG", exif=exif.tobytes()), target).size == size


def test_a_phones_photo_with_pictures_behind_it_is_its_first(target: Path) -> None:
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    data = file_of(first, "MPO", save_all=True, append_images=[second])
    pixel = normalised(data, target).getpixel((8, 8))
    assert isinstance(pixel, tuple)
    assert pixel[0] > 200


def test_nothing_but_pixels_is_kept(target: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "home address"
    data = file_of(Image.new("RGB", (16, 16)), "JPEG", exif=exif.tobytes(), comment="a comment", icc_profile=b"profile")
    normalised(data, target)
    stored = target.read_bytes()
    assert not any(word in stored for word in (b"home address", b"a comment", b"eXIf", b"iCCP", b"tEXt"))


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    data = file_of(Image.linear_gradient("L"), "JPEG")
    for name in ("a", "b"):
        images.normalise(data, tmp_path / name, max_pixels=LIMIT)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_pixels_are_counted_before_decoding(target: Path) -> None:
    error = refusal(file_of(Image.new("L", (1000, 1001))), target)
    assert (error.status_code, error.code, error.limit) == (413, "too_many_pixels", LIMIT)
    images.normalise(file_of(Image.new("L", (1000, 1000))), target, max_pixels=LIMIT)


def test_pillows_own_refusal_is_the_same(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = file_of(Image.new("L", (64, 64)))
    for limit in (4095, 100):  # a warning, then an error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert refusal(data, target, max_pixels=limit).code == "too_many_pixels"


def test_text_hidden_in_a_png_that_unpacks_to_much_is_refused(target: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("k", "x" * 2_000_000, zip=True)
    error = refusal(file_of(Image.new("RGB", (16, 16)), pnginfo=info), target)
    assert (error.status_code, error.code) == (422, "corrupt_image")


def test_every_cut_of_an_image_is_refused(target: Path) -> None:
    for kind in images.FORMATS:
        data = file_of(Image.linear_gradient("L").resize((40, 30)).convert("RGB"), kind)
        for length in [*range(4, len(data) - 24, 7), *range(len(data) - 24, len(data))]:
            assert refusal(data[:length], target).code == "corrupt_image", (kind, length)


@pytest.mark.parametrize("data", [b"", b"\x89", b"GIF89a", b"<svg/>", b"%PDF-1.7", b"\x00" * 1000])
def test_what_is_no_image_is_415(data: bytes, target: Path) -> None:
    error = refusal(data, target)
    assert (error.status_code, error.code, error.field) == (415, "not_an_image", "image")
