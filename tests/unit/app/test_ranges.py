import pytest

from app.ranges import ByteRange, Unsatisfiable, if_range, none_match, requested


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=0-99", ByteRange(0, 100)),
        ("bytes=0-", ByteRange(0, 100)),
        ("bytes=99-", ByteRange(99, 1)),
        ("bytes=50-1000", ByteRange(50, 50)),
        ("bytes=-1", ByteRange(99, 1)),
        ("bytes=-1000", ByteRange(0, 100)),
        ("bytes= 3 - 4 ", ByteRange(3, 2)),
    ],
)
def test_ranges_of_a_hundred_bytes(header: str, expected: ByteRange) -> None:
    assert requested(header, 100) == expected


@pytest.mark.parametrize(
    "header", [None, "", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "lines=0-1", "bytes=0x1-2"]
)
def test_what_is_no_single_range_means_everything(header: str | None) -> None:
    assert requested(header, 100) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_no_byte_in_range(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        requested(header, size)


def test_content_range() -> None:
    assert ByteRange(10, 5).content_range(100) == "bytes 10-14/100"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, True),
        ('"a"', False),
        ('W/"a"', False),
        ('"b", "a"', False),
        ("*", False),
        ('"b"', True),
        ("a", True),
        ("", True),
    ],
)
def test_if_none_match_compares_weakly(header: str | None, expected: bool) -> None:
    assert none_match(header, '"a"') is expected
    assert none_match(header, 'W/"a"') is expected


@pytest.mark.parametrize(("header", "expected"), [(None, True), ('"a"', True), ('W/"a"', False), ('"b"', False)])
def test_if_range_compares_strongly(header: str | None, expected: bool) -> None:
    assert if_range(header, '"a"') is expected
