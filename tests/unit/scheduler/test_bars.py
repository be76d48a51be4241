"""Attempts as bars: none is lost, none covers another, and those too short to be seen are blocks."""

import random
from collections import Counter

from scheduler.bars import RUNNING, Bar, Run, draw

HOUR = 3600.0


def run(began: float, ended: float | None, outcome: str | None = "succeeded") -> Run:
    return ("GPU-0", began, ended, outcome if ended is not None else None, f"job-{began}", 1)


def bars(*runs: Run, most: int = 600, resolution: float = 6.0) -> list[Bar]:
    return draw(runs, HOUR, resolution, most)


def test_what_can_be_seen_is_a_bar_by_itself() -> None:
    first, second = bars(run(0.0, 60.0), run(60.0, 90.0, "failed"))
    assert (first.began_at, first.ended_at, first.outcome, first.key, first.lane) == (
        0.0, 60.0, "succeeded", ("job-0.0", 1), 0,
    )  # fmt: skip
    assert (second.outcome, second.outcomes, second.attempts, second.lane) == ("failed", {"failed": 1}, 1, 0)


def test_attempts_that_run_together_have_lanes_of_their_own() -> None:
    found = bars(run(0.0, 100.0), run(10.0, 50.0), run(20.0, 40.0), run(50.0, 99.0), run(100.0, 200.0))
    assert [bar.lane for bar in found] == [0, 1, 2, 1, 0]


def test_an_overlap_too_short_to_be_seen_needs_no_lane() -> None:
    assert [bar.lane for bar in bars(run(0.0, 100.0), run(95.0, 200.0))] == [0, 0]


def test_one_that_runs_keeps_its_lane() -> None:
    first, second = bars(run(0.0, None), run(50.0, 90.0))
    assert (first.ended_at, first.outcome, first.lane, second.lane) == (None, RUNNING, 0, 1)


def test_short_ones_that_follow_each_other_are_a_block() -> None:
    (block,) = bars(run(0.0, 3.0, "failed"), run(4.0, 7.0), run(8.0, 12.0))
    assert (block.began_at, block.ended_at, block.outcomes) == (0.0, 12.0, {"failed": 1, "succeeded": 2})
    assert (block.outcome, block.attempts, block.key) == ("succeeded", 3, None)


def test_a_short_one_alone_stays_what_it_is() -> None:
    found = bars(run(0.0, 3.0), run(3.0, 60.0), run(60.0, 62.0), run(80.0, 82.0))
    assert [bar.key is not None for bar in found] == [True] * 4


def test_a_block_is_not_much_longer_than_ten_times_what_can_be_seen() -> None:
    found = bars(*(run(at, at + 5.0) for at in range(0, 3600, 5)))
    assert len(found) == 60
    assert all((bar.ended_at or 0.0) - bar.began_at <= 66.0 for bar in found)


def test_there_are_at_most_so_many() -> None:
    alternating = [one for at in range(0, 3600, 20) for one in (run(at, at + 10.0), run(at + 18.0, at + 19.0))]
    assert len(bars(*alternating)) == 360
    few = bars(*alternating, most=50)
    assert len(few) <= 50
    assert sum(bar.attempts for bar in few) == 360


def test_nothing_is_lost_whatever_the_order() -> None:
    chance = random.Random(7)  # noqa: S311  no secret
    runs = [
        run(began := chance.uniform(0.0, HOUR), began + chance.expovariate(0.1), chance.choice(("succeeded", "failed")))
        for _ in range(2000)
    ]
    found = bars(*runs, most=2000)
    chance.shuffle(runs)
    assert bars(*runs, most=2000) == found
    assert sum((Counter(bar.outcomes) for bar in found), Counter()) == Counter(one[3] for one in runs)
    singles = {bar.key for bar in found if bar.key is not None}
    assert singles <= {(one[4], one[5]) for one in runs}
    for lane in {bar.lane for bar in found}:
        own = [bar for bar in found if bar.lane == lane]
        assert all((one.ended_at or 0.0) <= after.began_at + 6.0 for one, after in zip(own, own[1:]))  # noqa: B905, RUF007


def test_a_clock_that_was_set_back_draws_a_moment() -> None:
    assert len(bars(run(50.0, 40.0), run(60.0, 90.0))) == 2


def test_no_attempts_make_no_bars() -> None:
    assert bars() == []
