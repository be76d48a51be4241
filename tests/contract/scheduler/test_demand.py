"""Submits that no GPU could ever hold are counted, hour by hour, and by no more than so many shapes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from scheduler import pruner as pruning
from scheduler.advice import Refused, advise
from scheduler.errors import Unschedulable
from scheduler.policy import Policy
from scheduler.prices import Prices
from scheduler.service import Scheduler
from scheduler.store import demand
from scheduler.store import schema as s
from tests.support.databases import Clock
from tests.support.fleet import GIB, MODEL, new_job, register_gpu

HOUR = 3600.0
KEPT = Policy().retention_seconds
HUGE = {"width": 1536, "height": 1536, "num_frames": 64}


@pytest.fixture(autouse=True)
def small(scheduler: Scheduler, clock: Clock) -> None:
    """A fleet that is too small, at the beginning of an hour."""
    clock.seconds = clock.seconds // HOUR * HOUR
    register_gpu(scheduler, total_bytes=12 * GIB)


def refuse(scheduler: Scheduler, **changes: object) -> int:
    """Submit a job that is refused; returns the bytes that it would have needed."""
    with pytest.raises(Unschedulable) as refused:
        scheduler.queue.submit(new_job(**HUGE | changes))
    assert refused.value.needed_bytes > 12 * GIB
    return refused.value.needed_bytes


def rows(scheduler: Scheduler) -> list[tuple[object, ...]]:
    with scheduler.database.read() as conn:
        table = s.refused_submits
        return [tuple(row) for row in conn.execute(select(table).order_by(table.c.at, table.c.shape))]


def refused(scheduler: Scheduler, **window: float) -> list[Refused]:
    return list(scheduler.evidence.read(Prices(), **window).evidence.refused)


def test_each_is_counted_with_its_shape_its_hour_and_what_it_needed(scheduler: Scheduler, clock: Clock) -> None:
    first = clock.seconds
    needed = refuse(scheduler)
    clock.advance(60)
    assert refuse(scheduler, num_inference_steps=7) == needed
    larger = refuse(scheduler, num_frames=72)
    clock.advance(HOUR)
    refuse(scheduler)
    assert rows(scheduler) == [
        (first, MODEL.id, "1536x1536x64", 2, needed),
        (first, MODEL.id, "1536x1536x72", 1, larger),
        (first + HOUR, MODEL.id, "1536x1536x64", 1, needed),
    ]


def test_what_fits_and_what_is_only_asked_about_is_not_counted(scheduler: Scheduler) -> None:
    scheduler.queue.submit(new_job(num_frames=2, width=256, height=256))
    with pytest.raises(Unschedulable):
        scheduler.queue.outlook(MODEL.id, new_job(**HUGE).params)
    assert rows(scheduler) == []


def test_one_is_refused_and_the_others_of_its_commit_are_queued(scheduler: Scheduler) -> None:
    small = {"num_frames": 2, "width": 256, "height": 256}
    answers = scheduler.queue.submit_many([new_job(**small), new_job(**HUGE), new_job(**small), new_job(**HUGE)])
    assert [isinstance(answer, Unschedulable) for answer in answers] == [False, True, False, True]
    assert [row[3] for row in rows(scheduler)] == [2]
    assert len(scheduler.queue.list_jobs()) == 2


def test_a_flood_of_shapes_makes_a_bounded_number_of_rows(
    scheduler: Scheduler, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "SHAPES_AN_HOUR", 3)
    largest = max(refuse(scheduler, num_frames=64 + more) for more in range(8))
    refuse(scheduler, num_frames=65)  # one of the three
    assert [row[2:4] for row in rows(scheduler)] == [
        ("", 5), ("1536x1536x64", 1), ("1536x1536x65", 2), ("1536x1536x66", 1),
    ]  # fmt: skip
    assert rows(scheduler)[0][1] == ""
    assert rows(scheduler)[0][4] == largest
    clock.advance(HOUR)
    refuse(scheduler, num_frames=80)
    assert rows(scheduler)[-1][2:4] == ("1536x1536x80", 1)


def test_many_at_once_are_all_counted(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through several queues, as several front ends have."""
    monkeypatch.setattr(demand, "SHAPES_AN_HOUR", 2)
    frames = [64 + number % 5 for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        many = [new_job(**HUGE | {"num_frames": count}) for count in frames]
        answers = list(threads.map(lambda number: scheduler.queue.submit_many(many[number::8]), range(8)))
    assert all(isinstance(one, Unschedulable) for answer in answers for one in answer)
    found = rows(scheduler)
    assert (len(found), sum(int(str(row[3])) for row in found)) == (3, 40)


def test_the_advice_counts_them_as_demand(scheduler: Scheduler, clock: Clock) -> None:
    needed = refuse(scheduler)
    larger = refuse(scheduler, num_frames=72)
    clock.advance(3 * HOUR)
    refuse(scheduler)
    clock.advance(HOUR / 2)
    assert refused(scheduler) == [
        Refused("1536x1536x64", "unschedulable", 2, at_submit=True, needed_bytes=needed),
        Refused("1536x1536x72", "unschedulable", 1, at_submit=True, needed_bytes=larger),
    ]
    assert [one.jobs for one in refused(scheduler, since=clock.seconds - 60)] == [1]  # of the hour that this is in
    assert [one.shape for one in refused(scheduler, until=clock.seconds - HOUR)] == ["1536x1536x64", "1536x1536x72"]
    assert refused(scheduler, since=clock.seconds - 2 * HOUR, until=clock.seconds - HOUR) == []
    demand_signal = advise(scheduler.evidence.read(Prices()).evidence).signals[0]
    assert demand_signal.active
    assert demand_signal.reason.startswith("3 jobs were refused or failed for want of memory: 1536x1536x64,")


def test_they_are_kept_as_long_as_the_rest(scheduler: Scheduler, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_BREATH_SECONDS", 0.0)
    monkeypatch.setattr(demand, "AT_ONCE", 2)
    for more in range(3):
        refuse(scheduler, num_frames=64 + more)
    clock.advance(HOUR)
    refuse(scheduler)
    clock.advance(KEPT - 1)
    assert scheduler.pruner.run_once().refused_submits == 0
    clock.advance(1)
    assert scheduler.pruner.run_once().refused_submits == 3
    assert [row[2] for row in rows(scheduler)] == ["1536x1536x64"]
