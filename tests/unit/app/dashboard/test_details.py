"""What an event tells, in words."""

from app.dashboard.details import details
from app.dashboard.wording import UNKNOWN
from scheduler.events import Event


def test_bytes_seconds_and_times_are_written_as_such() -> None:
    data = {"reason": "fans", "total_bytes": 2**30, "wait_seconds": 90.0, "asked_at": 0.0, "plans": ["fp16", "int8"]}
    told = dict(details(Event(1, 0.0, "gpu.draining", "GPU-0", None, "ops", data)))
    assert told == {
        "reason": "fans",
        "total": "1.0 GiB",
        "wait": "1m 30s",
        "asked": '<time datetime="1970-01-01T00:00:00.000Z" data-local="moment">01 Jan 00:00:00</time>',
        "plans": "fp16, int8",
    }


def test_what_is_not_there_is_left_out() -> None:
    data = {"deadline_at": None, "reason": "", "plans": [], "lost": 0, "on_deadline": "kill"}
    assert details(Event(1, 0.0, "x", "y", None, None, data)) == [("lost", "0"), ("on deadline", "kill")]


def test_a_time_that_no_calendar_has_is_not_known() -> None:
    data = {"started_at": 1e30, "ended_at": -1e30}
    assert details(Event(1, 0.0, "x", "y", None, None, data)) == [("started", UNKNOWN), ("ended", UNKNOWN)]
