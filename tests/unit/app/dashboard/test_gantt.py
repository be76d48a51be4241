"""The geometry of a timeline."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from app.dashboard import gantt
from scheduler.bars import Bar, Key
from scheduler.timeline import Curve, Ran, Row, Timeline
from tests.support.fleet import GIB

SINCE, UNTIL = 1000.0, 2000.0
STEPS = 10
ALWAYS = Curve(1000, 100, *[[4.0 * GIB] * STEPS for _ in range(3)], [50.0] * STEPS)
NEVER = Curve(1000, 100, [], [], [], [])
RAN = Ran("job_aaaaaa", 1, 2, "acme", "i2vgen", "fp16", "512x512x16", 90.0, 8 * GIB, 7 * GIB, None)


def bar(began: float, ended: float | None, outcome: str = "succeeded", lane: int = 0, job: str = "job_aaaaaa") -> Bar:
    return Bar(lane, began, ended, {outcome: 1}, (job, 1))


def row(*bars: Bar, curve: Curve = ALWAYS) -> Row:
    return Row("GPU-0", "host-0", "A10", 8 * GIB, bars, curve)


def closer(gpu_id: str, middle: float) -> str:
    return f"{gpu_id} at {middle:g}"


def lay_out(*rows: Row, attempts: Mapping[Key, Ran] | None = None) -> gantt.Gantt:
    return gantt.lay_out(Timeline((SINCE, UNTIL), 1.0, rows, attempts or {}), closer)


def marks(*bars: Bar, attempts: Mapping[Key, Ran] | None = None) -> Sequence[gantt.Mark]:
    return lay_out(row(*bars), attempts=attempts).tracks[0].marks


def test_a_bar_is_where_its_attempt_was() -> None:
    (mark,) = marks(bar(1250, 1750))
    assert (mark.x, mark.width, mark.y, mark.kind) == (25.0, 50.0, 0, "succeeded")
    assert (mark.href, mark.key, mark.label) == ("/jobs/job_aaaaaa", "job_aaaaaa-1", "aaaaaa")


def test_lanes_stand_below_each_other() -> None:
    (track,) = lay_out(row(bar(1000, 1500), bar(1100, 1600, lane=1), bar(1200, 1700, lane=2))).tracks
    assert [mark.y for mark in track.marks] == [0, gantt.LANE, 2 * gantt.LANE]
    assert (track.lanes, track.bars_height) == (3, 3 * gantt.LANE)
    assert lay_out(row()).tracks[0].lanes == 1, "a GPU on which nothing ran has a row too"


@pytest.mark.parametrize(
    ("began", "ended", "x", "width"),
    [
        (500, 1100, 0, 10),  # began before
        (1900, None, 90, 10),  # runs
        (500, 3000, 0, 100),
        (1500, 1500.001, 50, 0.15),  # too short to be seen
        (1999.9999, 2000, 99.85, 0.15),
    ],
)
def test_what_sticks_out_or_is_tiny(began: float, ended: float | None, x: float, width: float) -> None:
    (mark,) = marks(bar(began, ended, "running" if ended is None else "succeeded"))
    assert (mark.x, mark.width) == (pytest.approx(x), pytest.approx(width))


def test_a_short_bar_has_no_room_for_an_id() -> None:
    assert [mark.label for mark in marks(bar(1000, 1069), bar(1100, 1171))] == ["", "aaaaaa"]


def test_a_block_of_several_leads_to_a_closer_look() -> None:
    (mark,) = marks(Bar(0, 1200, 1400, {"succeeded": 5, "failed": 2}, None))
    assert (mark.href, mark.kind) == ("GPU-0 at 1300", "succeeded")
    assert mark.words == "7 attempts: 5 succeeded, 2 failed"


def test_an_attempt_tells_what_it_was() -> None:
    (mark,) = marks(bar(1000, 1100), attempts={("job_aaaaaa", 1): RAN})
    assert mark.words == (
        "job_aaaaaa, attempt 2: i2vgen, fp16, 512x512x16; succeeded after 1m 40s, 1m 30s predicted; "
        "peak 7.0 GiB, 8.0 GiB predicted"
    )
    running = replace(RAN, vram_peak_bytes=None)
    (mark,) = marks(bar(1900, None, "running"), attempts={("job_aaaaaa", 1): running})
    assert mark.words.endswith("; has run for 1m 40s, 1m 30s predicted, 8.0 GiB predicted")


def test_an_attempt_whose_job_is_gone_has_a_bar() -> None:
    assert marks(bar(1000, 1100))[0].words == "job_aaaaaa: succeeded after 1m 40s"


def test_memory_that_ran_out_is_a_kind_of_its_own() -> None:
    attempts = {("job_aaaaaa", 1): replace(RAN, error_code="out_of_memory")}
    drawn = lay_out(row(bar(1000, 1100, "retried"), bar(1200, 1300, "retried", job="job_b")), attempts=attempts)
    assert [mark.kind for mark in drawn.tracks[0].marks] == ["out_of_memory", "retried"]
    assert drawn.counts == {"out_of_memory": 1, "retried": 1}
    assert "; out of memory" in drawn.tracks[0].marks[0].words


def test_every_attempt_is_counted_once() -> None:
    block = Bar(0, 1200, 1400, {"succeeded": 5, "failed": 2}, None)
    drawn = lay_out(row(bar(1000, 1100), block), row(bar(1000, None, "running")))
    assert drawn.counts == {"succeeded": 6, "failed": 2, "running": 1}
    assert drawn.tracks[0].words == "8 attempts: 6 succeeded, 2 failed; idle 70% of the time"


def test_idle_is_when_nothing_ran() -> None:
    overlapping = row(bar(1000, 1400), bar(1200, 1500, lane=1), bar(1250, 1300, lane=2), bar(1800, None, "running"))
    assert lay_out(overlapping).tracks[0].idle_share == pytest.approx(0.3)
    assert lay_out(row(bar(0, 1500))).tracks[0].idle_share == pytest.approx(0.5), "only the time that is shown counts"
    assert lay_out(row()).tracks[0].idle_share == 1.0


def test_a_gpu_that_was_away_was_not_idle() -> None:
    half = replace(ALWAYS, reserved_bytes=[None] * 5 + [1.0] * 5)
    assert lay_out(row(bar(1500, 1750), curve=half)).tracks[0].idle_share == pytest.approx(0.5)
    assert lay_out(row(curve=NEVER)).tracks[0].idle_share is None
    assert lay_out(row(bar(1000, 1100), curve=NEVER)).tracks[0].idle_share == 0.0, "it was there while something ran"


def test_the_fleet_is_idle_by_the_time_of_all() -> None:
    assert lay_out(row(bar(1000, 2000)), row(), row(curve=NEVER)).idle_share == pytest.approx(0.5)


def test_memory_is_drawn_against_all_there_is() -> None:
    track = lay_out(row()).tracks[0]
    assert track.memory.startswith("M5.0 100 L5.0 50.0 ")
    assert track.memory_words == "memory: mean 4.0 GiB, peak 4.0 GiB"
    assert lay_out(row(curve=NEVER)).tracks[0].memory == ""


def test_too_many_bars_are_shapes() -> None:
    many = [bar(1000 + 0.5 * number, 1000.25 + 0.5 * number) for number in range(1600)]
    few = [bar(1900, 1950, "failed")]
    drawn = lay_out(row(*many), row(*few))
    assert drawn.dense
    assert [track.marks for track in drawn.tracks] == [[], []]
    ((kind, path),) = drawn.tracks[0].shapes
    assert (kind, path.count("M")) == ("succeeded", 1600)
    assert drawn.tracks[1].shapes == [("failed", "M90.0 0h5.0v14h-5.0z")]
