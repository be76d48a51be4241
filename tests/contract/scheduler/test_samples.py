"""Samples: each is in the buckets of every step; charts and totals are made of the finest that are kept."""

import math
import random
from dataclasses import dataclass

import pytest

from scheduler import samples
from scheduler.errors import NotFound
from scheduler.policy import Policy
from scheduler.records import GpuSample
from scheduler.samples import KEPT_SECONDS, Level, Point, Series
from scheduler.service import Scheduler
from scheduler.store import samples as rows
from tests.support.databases import Clock
from tests.support.fleet import GIB, MODEL, RegisteredGpu, gpu_info, new_job, register_gpu, snapshot

GPU = "GPU-0"
HOUR, DAY = 3600.0, 86_400.0
TTL = Policy().worker_ttl_seconds
LOOK = GpuSample(3 * GIB, 21 * GIB)


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    """A GPU that has been registered just now, and has no sample."""
    scheduler.fleet.register(MODEL, [gpu_info(GPU)])
    return RegisteredGpu(scheduler, gpu_info(GPU))


def points(scheduler: Scheduler, clock: Clock, seconds: float = 30.0) -> list[Point]:
    """What was seen in the last seconds and now, as fine as it is kept."""
    end = clock.seconds + 0.001
    return list(scheduler.samples.series(GPU, end - seconds, end).points)


def test_a_sample_is_in_a_bucket_of_each_step(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    clock.seconds += 7.5
    scheduler.fleet.sample(GPU, LOOK)
    found = snapshot(scheduler)["gpu_samples"]
    hour = int(clock.seconds - 7.5)
    assert hour % 3600 == 0
    assert [row[:3] for row in found] == [(GPU, 5, hour + 5), (GPU, 60, hour), (GPU, 3600, hour)]
    assert len({row[3:] for row in found}) == 1


def test_what_is_measured_is_summed_up(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    gpu.add_worker(6 * GIB)
    looks = [
        GpuSample(8 * GIB, 16 * GIB, 81.0, 60.0, foreign_bytes=GIB, power_watts=300.0),
        GpuSample(10 * GIB, 14 * GIB, 80.0, 70.0, foreign_bytes=3 * GIB, power_watts=200.0),
        GpuSample(None, None, problem="the driver does not answer"),
    ]
    for look in looks:
        scheduler.fleet.sample(GPU, look)
    (point,) = points(scheduler, clock)
    assert point.at == clock.seconds
    assert (point.samples, point.problems, point.hot_share) == (3, 1, 0.5)
    assert point.used_bytes == Level(9 * GIB, 10 * GIB)
    assert point.foreign_bytes == Level(2 * GIB, 3 * GIB)
    assert point.reserved_bytes == Level(6 * GIB, 6 * GIB)
    assert point.utilization_percent == Level(80.5, 81.0)
    assert point.power_watts == Level(250.0, 300.0)
    assert point.temperature_celsius == Level(65.0, 70.0)


def test_what_was_never_measured_is_no_number(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    scheduler.fleet.sample(GPU, GpuSample(None, None, problem="the GPU is lost"))
    (point,) = points(scheduler, clock)
    assert (point.samples, point.problems, point.hot_share) == (1, 1, None)
    assert (point.used_bytes, point.foreign_bytes, point.utilization_percent) == (None, None, None)
    assert (point.power_watts, point.temperature_celsius) == (None, None)
    assert point.reserved_bytes == Level(0.0, 0.0), "the books are always known"


def test_a_sample_stands_for_the_time_before_it(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    stood_for = []
    for seconds in (0.0, 2.0, 3.5, 600.0, -5.0):
        clock.advance(seconds)
        before = sum(point.seconds for point in points(scheduler, clock, HOUR))
        scheduler.fleet.sample(GPU, LOOK)
        stood_for.append(sum(point.seconds for point in points(scheduler, clock, HOUR)) - before)
    assert stood_for == [0.0, 2.0, 3.5, TTL, 0.0], "not for a silence in which the GPU counted as gone"


def test_time_is_busy_while_a_lease_is_open(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    gpu.add_worker(6 * GIB)
    jobs = [new_job(), new_job()]
    for job in jobs:
        scheduler.queue.submit(job)
    clock.advance(2)
    scheduler.fleet.sample(GPU, LOOK)
    leases = [gpu.must_claim(lane=0), gpu.must_claim(lane=0)]
    clock.advance(3)
    scheduler.fleet.sample(GPU, LOOK)
    (point,) = points(scheduler, clock, 4.0)
    largest = max(lease.reserved_bytes for lease in leases)
    assert scheduler.fleet.gpu(GPU).reserved_bytes == 6 * GIB + largest
    assert point.reserved_bytes is not None
    assert point.reserved_bytes.max == 6 * GIB + largest, "jobs of one lane count once"
    for lease in leases:
        scheduler.leases.release(lease)
    clock.advance(1)
    scheduler.fleet.sample(GPU, LOOK)
    total = scheduler.samples.totals(clock.seconds - 60, clock.seconds + 5)[GPU]
    assert (total.seconds, total.busy_seconds, total.samples) == (6.0, 3.0, 3)


def test_a_gpu_that_is_not_known_leaves_no_sample(scheduler: Scheduler, clock: Clock) -> None:
    with pytest.raises(NotFound):
        scheduler.fleet.sample("GPU-9", LOOK)
    assert snapshot(scheduler)["gpu_samples"] == []


def test_the_latest_sample_is_the_gpus(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    look = GpuSample(3 * GIB, 21 * GIB, 50.0, 40.0, foreign_bytes=GIB, power_watts=120.5)
    scheduler.fleet.sample(GPU, look)
    assert scheduler.fleet.gpu(GPU).sample == look


@pytest.mark.parametrize(
    ("since_ago", "seconds", "most", "step"),
    [
        (600.0, 600.0, 600, 5),
        (HOUR, HOUR, 600, 10),
        (HOUR, HOUR, 60, 60),
        (2 * HOUR, 10.0, 600, 60),
        (DAY, DAY, 600, 180),
        (7 * DAY, 7 * DAY, 600, 1020),
        (8 * DAY, 60.0, 600, 3600),
        (30 * DAY, 30 * DAY, 600, 7200),
        (365 * DAY, 365 * DAY, 600, 54_000),
        (7 * DAY, 7 * DAY, 10, 61_200),
    ],
)
def test_a_chart_is_as_fine_as_is_kept_and_wanted(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, since_ago: float, seconds: float, most: int, step: int
) -> None:
    since = clock.seconds - since_ago
    assert scheduler.samples.series(GPU, since, since + seconds, most).step_seconds == step
    assert math.ceil(seconds / step) <= most


def test_without_times_a_chart_is_of_the_last_hour(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    for _ in range(3):
        clock.advance(1800)
        scheduler.fleet.sample(GPU, LOOK)
    clock.advance(10)
    last = scheduler.samples.series(GPU)
    assert (last.step_seconds, [clock.seconds - point.at for point in last.points]) == (10, [1810, 10])
    earlier = scheduler.samples.series(GPU, until=clock.seconds - 10)
    assert [clock.seconds - point.at for point in earlier.points] == [3610, 1810]


def test_between_times_in_the_wrong_order_lies_nothing(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    scheduler.fleet.sample(GPU, LOOK)
    for until in (clock.seconds, clock.seconds - HOUR):
        assert scheduler.samples.series(GPU, clock.seconds, until) == Series(5, [])
        assert scheduler.samples.totals(clock.seconds, until) == {}


@dataclass(frozen=True)
class Look:
    """A sample as the test remembers it."""

    gpu_id: str
    at: float
    seconds: float
    used_bytes: int


@pytest.fixture
def looks(scheduler: Scheduler, clock: Clock) -> list[Look]:
    """Two GPUs, sampled at random times for three hours and a half, now and then not at all."""
    luck = random.Random(7)  # noqa: S311  a test's
    gpus = [register_gpu(scheduler, name, workers=0).info.id for name in ("GPU-0", "GPU-1")]
    made = [Look(gpu_id, clock.seconds, 0.0, 0) for gpu_id in gpus]
    end = clock.seconds + 3.5 * HOUR
    while clock.seconds < end:
        pause = luck.choice([2.0, 40.0, 100.0])
        clock.advance(pause)
        for gpu_id in luck.sample(gpus, luck.choice([1, 2])):
            used = luck.randrange(24) * GIB
            before = max(look.at for look in made if look.gpu_id == gpu_id)
            scheduler.fleet.sample(gpu_id, GpuSample(used, 24 * GIB - used))
            made.append(Look(gpu_id, clock.seconds, min(TTL, clock.seconds - before), used))
    return made


def test_totals_are_those_of_the_samples_in_between(scheduler: Scheduler, clock: Clock, looks: list[Look]) -> None:
    luck = random.Random(8)  # noqa: S311  a test's
    start = looks[0].at
    for _ in range(40):
        since, until = sorted(luck.uniform(start - HOUR, clock.seconds + HOUR) for _ in range(2))
        first, last = (_cut(end, clock.seconds) for end in (since, until))
        found = scheduler.samples.totals(since, until)
        for gpu_id in ("GPU-0", "GPU-1"):
            wanted = [look for look in looks if look.gpu_id == gpu_id and first <= look.at < last]
            if not wanted:
                assert gpu_id not in found
                continue
            total = found[gpu_id]
            assert total.samples == len(wanted)
            assert total.seconds == pytest.approx(sum(look.seconds for look in wanted))
            used = [look.used_bytes for look in wanted]
            assert total.used_bytes is not None
            assert (total.used_bytes.mean, total.used_bytes.max) == (pytest.approx(sum(used) / len(used)), max(used))


def _cut(at: float, now: float) -> float:
    """Where the next bucket begins of the finest step that is kept."""
    step = next(step for step, kept in KEPT_SECONDS.items() if at >= now - kept)
    return math.ceil(at / step) * step


def test_totals_of_times_next_to_each_other_add_up(scheduler: Scheduler, clock: Clock, looks: list[Look]) -> None:
    start, end = looks[0].at, clock.seconds + 5
    for cut in (start + 1.0, start + 4000.7, start + 2 * HOUR, end - HOUR, end - 61.3, end - 0.5):
        parts = [scheduler.samples.totals(start, cut), scheduler.samples.totals(cut, end)]
        whole = scheduler.samples.totals(start, end)
        for gpu_id, total in whole.items():
            samples_of = [part[gpu_id].samples for part in parts if gpu_id in part]
            assert sum(samples_of) == total.samples


def test_a_chart_adds_up_to_the_totals(scheduler: Scheduler, clock: Clock, looks: list[Look]) -> None:
    start, end = looks[0].at, math.ceil(clock.seconds / 3600) * 3600.0
    for most in (1, 7, 600):
        series = scheduler.samples.series(GPU, start, end, most)
        assert len(series.points) <= most
        assert all(point.at % series.step_seconds == 0 for point in series.points)
        total = scheduler.samples.totals(start, end)[GPU]
        if start % series.step_seconds == 0:
            assert sum(point.samples for point in series.points) == total.samples
            assert total.used_bytes is not None
            assert max(point.used_bytes.max for point in series.points if point.used_bytes) == total.used_bytes.max


def test_a_gpu_that_was_forgotten_was_paid_for(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    clock.advance(5)
    scheduler.fleet.sample(GPU, LOOK)
    with scheduler.database.write() as conn:
        conn.exec_driver_sql("DELETE FROM gpus")
    assert scheduler.samples.totals(clock.seconds - HOUR, clock.seconds + 5)[GPU].seconds == 5.0
    assert len(points(scheduler, clock)) == 1


def test_old_buckets_go_and_leave_the_coarser_ones(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    def left() -> dict[int, int]:
        found = [row[1] for row in snapshot(scheduler)["gpu_samples"]]
        return {step: found.count(step) for step in KEPT_SECONDS}

    for _ in range(120):
        clock.advance(60)
        scheduler.fleet.sample(GPU, LOOK)
    assert left() == {5: 120, 60: 120, 3600: 3}
    assert scheduler.pruner.run_once().samples == 59
    assert left() == {5: 61, 60: 120, 3600: 3}, "by whole hours"
    clock.advance(7 * DAY)
    assert scheduler.pruner.run_once().samples == 61 + 119
    assert left() == {5: 0, 60: 1, 3600: 3}
    clock.advance(365 * DAY)
    assert scheduler.pruner.run_once().samples == 1 + 3
    assert not scheduler.pruner.run_once()


def test_many_old_buckets_go_in_batches(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "AT_ONCE", 10)
    for name in ("GPU-1", "GPU-2"):
        register_gpu(scheduler, name, workers=0)
    for _ in range(12):
        clock.advance(5)
        for name in (GPU, "GPU-1", "GPU-2"):
            scheduler.fleet.sample(name, LOOK)
    with scheduler.database.write() as conn:
        gone = [samples.prune(conn, clock.seconds + 3 * HOUR) for _ in range(5)]
    assert gone == [10, 10, 10, 8, 0]
