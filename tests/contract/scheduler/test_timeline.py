"""What ran where and when, read from real databases."""

import pytest

from scheduler.errors import InvalidParameter, NotFound
from scheduler.records import GpuSample
from scheduler.service import Scheduler
from scheduler.timeline import LONGEST_SECONDS, Row
from tests.support.databases import Clock
from tests.support.fleet import ERROR, GIB, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu

DAY = 86_400.0


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


def only(scheduler: Scheduler, since: float | None = None, until: float | None = None) -> Row:
    (row,) = scheduler.timeline.read(since, until).gpus
    return row


def run_one(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, seconds: float) -> None:
    scheduler.queue.submit(new_job())
    lease = gpu.must_claim()
    clock.advance(seconds)
    scheduler.leases.succeed(lease, RESULT, MEASURED)


def test_a_gpu_on_which_nothing_ran(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    found = scheduler.timeline.read()
    assert found.window == (clock.seconds - 3600.0, clock.seconds)
    assert found.resolution_seconds == 6.0
    (row,) = found.gpus
    assert (row.gpu_id, row.host, row.name, row.total_bytes, row.bars) == (
        "GPU-0", "host-0", "NVIDIA GeForce RTX 3090", 24 * GIB, [],
    )  # fmt: skip


def test_attempts_as_they_ended_and_one_that_runs(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    jobs = [new_job(tenant="studio") for _ in range(3)]
    began = clock.seconds
    for job in jobs[:2]:
        scheduler.queue.submit(job)
        lease = gpu.must_claim()
        clock.advance(60)
        if job is jobs[0]:
            scheduler.leases.succeed(lease, RESULT, MEASURED)
        else:
            scheduler.leases.fail(lease, ERROR)
    scheduler.queue.submit(jobs[2])
    gpu.must_claim()
    clock.advance(30)
    found = scheduler.timeline.read()
    (row,) = found.gpus
    assert [(bar.began_at - began, bar.ended_at and bar.ended_at - began, bar.outcome) for bar in row.bars] == [
        (0.0, 60.0, "succeeded"), (60.0, 120.0, "failed"), (120.0, None, "running"),
    ]  # fmt: skip
    assert [bar.key for bar in row.bars] == [(job.id, 1) for job in jobs]
    ran = [found.attempts[job.id, 1] for job in jobs]
    assert {(one.tenant, one.model, one.number) for one in ran} == {("studio", jobs[0].model, 1)}
    assert [one.vram_peak_bytes for one in ran] == [MEASURED.vram_peak_bytes, None, None]
    assert [one.error_code for one in ran] == [None, ERROR.code, None]
    assert all(one.predicted_vram_bytes > 0 and one.predicted_seconds > 0 for one in ran)


def test_a_window_has_what_overlaps_it(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    began = clock.seconds
    for _ in range(3):
        run_one(scheduler, gpu, clock, 100)
    clock.advance(DAY)
    assert [bar.began_at - began for bar in only(scheduler, began + 50, began + 150).bars] == [0.0, 100.0]
    assert [bar.began_at - began for bar in only(scheduler, began + 100, began + 200).bars] == [100.0]
    assert only(scheduler, began + 300, began + 400).bars == []
    assert scheduler.timeline.read(began + 100, began + 200).attempts.keys() == {
        only(scheduler, began + 100, began + 200).bars[0].key
    }


def test_many_short_ones_are_blocks(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    began = clock.seconds
    for _ in range(5):
        run_one(scheduler, gpu, clock, 1)
    clock.advance(3600)
    found = scheduler.timeline.read(began)
    (block,) = found.gpus[0].bars
    assert (block.outcomes, block.key, block.began_at, block.ended_at) == ({"succeeded": 5}, None, began, began + 5)
    assert found.attempts == {}


def test_the_curve_is_what_was_seen(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    clock.advance(-clock.seconds % 3600)
    began = clock.seconds
    clock.advance(1802)
    for used in (4 * GIB, 8 * GIB):
        scheduler.fleet.sample("GPU-0", GpuSample(used, 24 * GIB - used, 50.0, foreign_bytes=GIB))
        clock.advance(5)
    clock.seconds = began + 3600
    curve = only(scheduler).curve
    assert (curve.first, curve.step_seconds, len(curve.used_bytes)) == (began, 15, 240)
    assert curve.used_bytes[120] == 6 * GIB
    assert (curve.foreign_bytes[120], curve.utilization_percent[120]) == (GIB, 50.0)
    assert curve.reserved_bytes[120] is not None
    assert (curve.used_bytes[119], curve.used_bytes[121]) == (None, None)


@pytest.mark.parametrize(("back", "step"), [(7 * DAY, 3600), (31 * DAY, 4 * 3600), (DAY, 360), (7200.0, 60)])
def test_a_curve_has_at_most_240_points(
    scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu, back: float, step: int
) -> None:
    clock.advance(back)
    scheduler.fleet.sample("GPU-0", GpuSample(GIB, 23 * GIB))
    clock.advance(step)
    curve = only(scheduler, clock.seconds - back).curve
    assert curve.step_seconds == step
    assert len(curve.used_bytes) <= 240
    assert [value for value in curve.used_bytes if value is not None] == [GIB]


def test_one_gpu_alone(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    other = register_gpu(scheduler, "GPU-1")
    run_one(scheduler, other, clock, 60)
    assert [row.gpu_id for row in scheduler.timeline.read().gpus] == ["GPU-0", "GPU-1"]
    (row,) = scheduler.timeline.read(gpu_id="GPU-1").gpus
    assert (row.gpu_id, len(row.bars)) == ("GPU-1", 1)
    (row,) = scheduler.timeline.read(gpu_id="GPU-0").gpus
    assert (row.gpu_id, row.bars) == ("GPU-0", [])


def test_a_gpu_that_has_left_is_shown_with_what_it_did(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    run_one(scheduler, gpu, clock, 60)
    with scheduler.database.write() as conn:
        conn.exec_driver_sql("DELETE FROM workers")
        conn.exec_driver_sql("DELETE FROM gpus")
    row = only(scheduler)
    assert (row.gpu_id, row.host, row.name, row.total_bytes, len(row.bars)) == ("GPU-0", None, None, None, 1)
    assert scheduler.timeline.read(gpu_id="GPU-0").gpus == [row]
    clock.advance(2 * 3600)
    assert scheduler.timeline.read().gpus == []


def test_an_unknown_gpu_is_not_found(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    with pytest.raises(NotFound, match="no GPU GPU-9"):
        scheduler.timeline.read(gpu_id="GPU-9")


@pytest.mark.parametrize(
    ("since", "until", "why"),
    [
        (0.0, None, "since must be at most 31 days before until"),
        (60.0, 60.0, "since must be before until, and before now"),
        (1e12, None, "since must be before until, and before now"),
        (None, -1e9, "since must be before until, and before now"),
    ],
)
def test_a_window_that_makes_no_sense(scheduler: Scheduler, since: float | None, until: float | None, why: str) -> None:
    with pytest.raises(InvalidParameter, match=why):
        scheduler.timeline.read(since, until)


def test_the_longest_window(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    found = scheduler.timeline.read(clock.seconds - LONGEST_SECONDS, clock.seconds + DAY)
    assert found.window == (clock.seconds - LONGEST_SECONDS, clock.seconds)


def test_the_curves_of_all_gpus_at_once(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    register_gpu(scheduler, "GPU-1")
    clock.advance(1800)
    scheduler.fleet.sample("GPU-1", GpuSample(6 * GIB, 18 * GIB))
    clock.advance(30)
    curves = scheduler.timeline.curves(3600.0, most=60)
    assert list(curves) == ["GPU-0", "GPU-1"]
    assert {(curve.step_seconds, len(curve.used_bytes)) for curve in curves.values()} == {(60, 60)}
    assert [value for value in curves["GPU-1"].used_bytes if value is not None] == [0.0, 6 * GIB]
    assert [value for value in curves["GPU-0"].used_bytes if value is not None] == [0.0]
