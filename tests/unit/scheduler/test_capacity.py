"""How many GPUs are wanted, and what is done about it: a table of looks with their known decisions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from scheduler.capacity import Decision, Host, Limits, Look, Lull, Start, Work, decide

NOW = 1_800_000_000.0
LIMITS = Limits(minimum=0, maximum=4, target_seconds=100.0, cooldown_seconds=600.0, idle_seconds=300.0)
SINGLES = tuple(Host(f"host-{number}", (f"GPU-{number}",)) for number in range(4))


def look(jobs: int = 0, seconds: float = 0.0, online: int = 0, **changes: Any) -> Look:
    """Return a look at `online` hosts of one GPU each, all of which may be let go."""
    return replace(Look(NOW, work=Work(jobs, seconds), online=online, removable=SINGLES[:online]), **changes)


@pytest.mark.parametrize(
    ("jobs", "seconds", "wanted"),
    [
        (0, 0.0, 0),
        (1, 0.1, 1),
        (5, 100.0, 1),
        (5, 100.1, 2),
        (1, 1000.0, 1),  # a second GPU would not help one job
        (2, 1000.0, 2),
        (50, 350.0, 4),
        (50, 1e9, 4),  # the maximum
    ],
)
def test_so_many_work_it_off_in_time(jobs: int, seconds: float, wanted: int) -> None:
    made = decide(look(jobs, seconds), None, LIMITS)
    assert (made.wanted, made.start, made.missing) == (wanted, wanted, wanted)


def test_a_reason_has_the_numbers() -> None:
    assert decide(look(5, 150.4), None, LIMITS).reason == (
        "5 jobs due, 150 s of work: 2 GPUs to work it off in 100 s"
    )  # fmt: skip
    assert decide(look(50, 1000.0), None, LIMITS).reason.endswith(
        "10 GPUs to work it off in 100 s, 0 at least and 4 at most"
    )
    assert decide(look(), None, LIMITS).reason == "nothing is due, 0 at least"


def test_the_minimum_is_there_without_work() -> None:
    made = decide(look(), None, replace(LIMITS, minimum=2))
    assert (made.wanted, made.start) == (2, 2)


def test_only_what_is_missing_is_started() -> None:
    assert decide(look(9, 300.0, online=2), None, LIMITS).start == 1
    assert decide(look(9, 300.0, online=3), None, LIMITS).start == 0
    assert decide(look(9, 900.0, online=6), None, LIMITS).start == 0  # more than the maximum, by others


def test_outside_of_the_windows_the_minimum_is_wanted() -> None:
    made = decide(look(9, 900.0, open=False, known=False), None, replace(LIMITS, minimum=1))
    assert (made.wanted, made.start, made.reason) == (1, 1, "outside of its windows, 1 at least")
    assert decide(look(9, 900.0, open=False, stranded=Work(9, 900.0)), None, LIMITS).start == 0


def test_one_comes_where_no_gpu_is_known() -> None:
    made = decide(look(known=False), None, LIMITS)
    assert (made.wanted, made.start) == (1, 1)
    assert made.reason.startswith("no GPU is known")


@pytest.mark.parametrize(
    ("last", "start"),
    [
        (Start(done_at=None), 0),  # the call has not succeeded yet
        (Start(done_at=None, arrived=True), 0),
        (Start(NOW - 599), 0),  # it still comes
        (Start(NOW - 600), 3),  # it is overdue
        (Start(NOW - 1199, in_vain=1), 0),  # the one before it has not come either
        (Start(NOW - 1200, in_vain=1), 3),
        (Start(NOW - 64 * 600, in_vain=5000), 3),
        (Start(NOW - 64 * 600 + 1, in_vain=5000), 0),
        (Start(NOW - 5, arrived=True), 3),  # it is there, or was, and is not enough
    ],
)
def test_what_was_started_is_waited_for(last: Start, start: int) -> None:
    made = decide(look(9, 900.0, online=1, last_start=last), None, LIMITS)
    assert (made.start, made.missing) == (start, 3)


def test_jobs_that_no_gpu_here_could_hold() -> None:
    made = decide(look(1, 50.0, online=1, stranded=Work(1, 50.0)), None, LIMITS)
    assert (made.wanted, made.start) == (1, 1)
    full = look(9, 900.0, online=4, stranded=Work(9, 900.0))
    assert decide(full, None, LIMITS).start == 0
    assert decide(replace(full, online=5), None, LIMITS).start == 0


def test_what_is_being_emptied_is_taken_back_before_any_is_started() -> None:
    leaving = (Host("a", ("A-0",), 5.0), Host("b", ("B-0", "B-1"), 50.0), Host("c", ("C-0",)))
    made = decide(look(9, 300.0, online=1, returnable=leaving), None, LIMITS)
    assert (made.resume, made.start, made.missing) == (("B-0", "B-1"), 0, 0)
    made = decide(look(9, 400.0, returnable=leaving[2:]), None, LIMITS)
    assert (made.resume, made.start, made.missing) == (("C-0",), 3, 3)
    assert decide(look(online=1, returnable=leaving), None, LIMITS).resume == ()


def follow(looks: Sequence[tuple[float, int, int]], limits: Limits = LIMITS) -> list[Decision]:
    """Decide again and again: each look is seconds after the first one, jobs of 100 s each, and GPUs online."""
    lull: Lull | None = None
    made = []
    for at, jobs, online in looks:
        made.append(decide(look(jobs, jobs * 100.0, online, now=NOW + at), lull, limits))
        lull = made[-1].lull
    return made


def test_one_that_idles_is_let_go_after_a_while() -> None:
    made = follow([(0, 1, 1), (10, 0, 1), (150, 0, 1), (309, 0, 1), (310, 0, 1), (315, 0, 0)])
    assert [one.drain for one in made] == [(), (), (), (), ("GPU-0",), ()]


def test_work_that_comes_and_goes_keeps_what_it_needs() -> None:
    made = follow([(at, at // 50 % 2, 1) for at in range(0, 2000, 50)])
    assert all(one.drain == () and one.start == 0 for one in made)


def test_only_what_was_too_much_all_the_time_is_let_go() -> None:
    made = follow([(0, 1, 4), (100, 3, 4), (200, 1, 4), (300, 0, 4), (305, 0, 3), (600, 0, 3)])
    assert [len(one.drain) for one in made] == [0, 0, 0, 1, 0, 3]


def test_the_minimum_is_never_let_go() -> None:
    made = follow([(0, 0, 3), (400, 0, 3), (1000, 0, 1)], replace(LIMITS, minimum=1))
    assert [len(one.drain) for one in made] == [0, 2, 0]


def test_idle_hosts_go_first_then_those_with_the_least_to_do_and_the_dearest_of_equals() -> None:
    hosts = (
        Host("busy", ("B",), remaining_seconds=90.0, hour_cost=9.0),
        Host("late", ("L",), remaining_seconds=5.0),
        Host("cheap", ("C",), hour_cost=0.5),
        Host("dear", ("D",), hour_cost=2.0),
        Host("pair", ("P-0", "P-1"), hour_cost=3.0),
    )
    lull = Lull(NOW - 300, 0)

    def let_go(surplus: int, *among: Host) -> tuple[str, ...]:
        seen = look(online=surplus, removable=among)
        return decide(seen, lull, LIMITS).drain

    singles = hosts[:4]
    assert [let_go(count, *singles) for count in (1, 2, 3)] == [("D",), ("D", "C"), ("D", "C", "L")]
    assert let_go(2, *hosts) == ("P-0", "P-1")
    assert let_go(1, *hosts) == ("D",), "a host goes as a whole, or not at all"
    assert let_go(1, hosts[4]) == ()
