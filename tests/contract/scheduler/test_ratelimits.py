"""Rate limits: what passes is what the limit lets through, whoever asks, and over all processes together."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from scheduler.ratelimits import RateLimits
from scheduler.service import Scheduler
from scheduler.store.database import Database
from tests.support.databases import Clock

NewProcess = Callable[[], RateLimits]


@pytest.fixture
def process(scheduler: Scheduler, clock: Clock) -> NewProcess:
    """Return a function that makes what a front-end process has; all their clocks are the database's."""
    return lambda: RateLimits(scheduler.database, monotonic=lambda: clock.seconds - 1_000.0)


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with each transaction."""
    made: list[None] = []
    trip = Database.trip

    @contextmanager
    def noted(self: Database) -> Iterator[Any]:
        made.append(None)
        with trip(self) as opened:
            yield opened

    monkeypatch.setattr(Database, "trip", noted)
    return made


def passed(limits: RateLimits, per_minute: int, bucket: str = "submit:acme") -> int:
    """Take until the first refusal; returns how many passed."""
    count = 0
    while limits.take(bucket, per_minute).allowed:
        count += 1
    return count


def test_a_minutes_worth_passes_at_once_and_then_one_in_each_interval(process: NewProcess, clock: Clock) -> None:
    limits = process()
    assert passed(limits, 60) == 60
    for _ in range(3):
        clock.advance(1.0)
        assert passed(limits, 60) == 1
    clock.advance(0.5)
    assert passed(limits, 60) == 0
    clock.advance(0.5)
    assert passed(limits, 60) == 1


def test_what_was_idle_is_full_again_and_never_more_than_full(process: NewProcess, clock: Clock) -> None:
    limits = process()
    assert passed(limits, 7) == 7
    clock.advance(30.0)
    assert passed(limits, 7) == 3
    clock.advance(3600.0)
    assert passed(limits, 7) == 7


def test_a_decision_tells_what_is_left(process: NewProcess, clock: Clock) -> None:
    limits = process()
    first = limits.take("b", 3)
    assert (first.allowed, first.remaining, first.retry_after_seconds) == (True, 2, 0.0)
    assert first.reset_seconds == pytest.approx(20.0)
    assert limits.take("b", 3).retry_after_seconds == 0.0
    last = limits.take("b", 3)
    assert (last.allowed, last.remaining, last.retry_after_seconds) == (True, 0, pytest.approx(20.0))
    clock.advance(5.0)
    refused = limits.take("b", 3)
    assert (refused.allowed, refused.remaining) == (False, 0)
    assert (refused.retry_after_seconds, refused.reset_seconds) == (pytest.approx(15.0), pytest.approx(55.0))


def test_buckets_are_apart(process: NewProcess) -> None:
    limits = process()
    assert passed(limits, 5, "submit:acme") == 5
    assert passed(limits, 5, "submit:other") == 5
    assert passed(limits, 5, "request:acme") == 5


@pytest.mark.parametrize("per_minute", [1, 7, 60, 2400])
def test_two_processes_together_let_through_exactly_the_limit(process: NewProcess, per_minute: int) -> None:
    here, there = process(), process()
    count, refused = 0, {id(here): False, id(there): False}
    while not all(refused.values()):
        for limits in (here, there):
            allowed = limits.take("b", per_minute).allowed
            count += allowed
            refused[id(limits)] = not allowed
    assert count == per_minute


def test_many_threads_of_two_processes_let_through_exactly_the_limit(process: NewProcess) -> None:
    processes = [process(), process()]
    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(lambda number: passed(processes[number % 2], 200), range(8)))
    assert sum(counts) == 200


@pytest.mark.parametrize("seed", range(2))
def test_no_stretch_of_time_lets_more_through_than_a_bucket_would(process: NewProcess, clock: Clock, seed: int) -> None:
    """Three processes, pauses and rushes; the bucket is a plain one, which all of them ask each time."""
    rng, per_minute = random.Random(seed), 2400  # noqa: S311
    processes, began = [process() for _ in range(3)], clock.seconds
    level, at, count, refused_with = float(per_minute), began, 0, []
    for _ in range(1500):
        clock.advance(rng.choice([0.0, 0.0, 0.0, 0.01, 0.03, rng.expovariate(5.0)]))
        if rng.random() < 0.002:
            clock.advance(rng.uniform(0.0, 40.0))
        for _ in range(rng.choice([1, 1, 3, 30])):
            level, at = min(per_minute, level + (clock.seconds - at) * per_minute / 60), clock.seconds
            if rng.choice(processes).take("b", per_minute).allowed:
                level -= 1
                count += 1
                assert level > -0.01, "it was empty"
            else:
                refused_with.append(level)
    assert len(refused_with) > 100
    assert max(refused_with) < 1 + 2 * 3, "what two others hold, at most"


def test_a_refusal_that_is_known_asks_nobody(process: NewProcess, clock: Clock, trips: list[None]) -> None:
    limits = process()
    passed(limits, 5)
    asked = len(trips)
    for _ in range(100):
        assert not limits.take("submit:acme", 5).allowed
    assert len(trips) == asked
    clock.advance(12.0)
    assert limits.take("submit:acme", 5).allowed


def test_a_high_limit_is_taken_in_blocks(process: NewProcess, trips: list[None]) -> None:
    assert passed(process(), 6000) == 6000
    assert len(trips) < 6000 / 4


def test_a_limit_that_is_changed_holds_at_once(process: NewProcess, clock: Clock) -> None:
    limits = process()
    assert passed(limits, 60) == 60
    clock.advance(10.0)
    assert passed(limits, 600) == 100
    assert passed(limits, 6) == 0
    clock.advance(31.0)
    assert passed(limits, 6) == 3


def test_time_that_a_process_holds_back_is_not_added_on_top(process: NewProcess, clock: Clock) -> None:
    limits, other = process(), process()
    assert limits.take("b", 6000).allowed  # of a block of five
    clock.advance(3600.0)
    assert passed(other, 6000, "b") + passed(limits, 6000, "b") == 6000
