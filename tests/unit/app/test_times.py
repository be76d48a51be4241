import pytest

from app.times import parse_time
from scheduler.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01t00:00:00.25z", 0.25),
        ("1970-01-01 01:00:00+01:00", 0.0),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140.0),
        ("9999-12-31T23:59:59-23:59", 253_402_387_139.0),
    ],
)
def test_rfc_3339_is_read(text: str, seconds: float) -> None:
    assert parse_time("deadline", text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "now", "0", "2026-01-01", "2026-01-01T00:00:00", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z",
     "2026-01-01T00:00:00+99:99", "٢٠٢٦-01-01T00:00:00Z", "2026-01-01T00:00:00Z\n", "2026-W01-1T00:00:00Z"],
)  # fmt: skip
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^deadline must be an RFC 3339 time") as refused:
        parse_time("deadline", text)
    assert refused.value.field == "deadline"
