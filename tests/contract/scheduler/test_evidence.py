"""What advice rests on, read from real databases: attempts as they end, and GPUs as they are sampled."""

from typing import Any

import pytest

from scheduler.advice import Diagnosis, Evidence, Growth, Refused, Verdict, advise
from scheduler.errors import InvalidParameter
from scheduler.evidence import EvidenceReader, Recorded
from scheduler.policy import Policy
from scheduler.prices import Price, Prices, Terms
from scheduler.records import GpuSample, JobError
from scheduler.remedies import RemedyName
from scheduler.replay import Card
from scheduler.service import Scheduler
from scheduler.states import Stage
from tests.support.databases import Clock
from tests.support.fleet import GIB, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu

DAY = 86_400.0
KIND = "NVIDIA GeForce RTX 3090"
OUT_OF_MEMORY = JobError("out_of_memory", "it did not fit")


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler, plans=("fp16", "fp16-chunked"))


def read(scheduler: Scheduler, prices: Prices | None = None, kept: float = 90 * DAY, **window: Any) -> Recorded:
    policy = Policy(retention_seconds=kept)
    reader = EvidenceReader(scheduler.database, scheduler.samples, scheduler.footprints, policy)
    return reader.read(prices or Prices(), **window)


def evidence(scheduler: Scheduler, **window: Any) -> Evidence:
    return read(scheduler, **window).evidence


def run(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu, seconds: float = 100.0, **job: Any) -> None:
    scheduler.queue.submit(new_job(**job))
    lease = gpu.must_claim()
    clock.advance(seconds)
    scheduler.leases.succeed(lease, RESULT, MEASURED)


def test_before_the_first_attempt_there_is_next_to_nothing(scheduler: Scheduler) -> None:
    found = evidence(scheduler)
    assert (found.gpus, found.attempts, found.remedies, found.growth.high) == ([], 0, [], None)
    assert advise(found).verdict is Verdict.UNKNOWN


def test_a_gpu_at_its_limit(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    scheduler.queue.submit(new_job())
    lease = gpu.must_claim()
    for _ in range(24):
        clock.advance(5)
        look = GpuSample(used_bytes=22 * GIB, free_bytes=2 * GIB, utilization_percent=95.0)
        scheduler.fleet.sample("GPU-0", look)
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    found = evidence(scheduler, growth=Growth(high=True, given=True))
    (use,) = found.gpus
    assert (use.diagnosis, use.busy_share) == (Diagnosis.COMPUTE, 1.0)
    assert use.load == pytest.approx(0.95)
    assert use.memory_share == pytest.approx(22 / 24)
    assert (found.attempts, found.leanest_share) == (1, 0.0)
    assert {one.name for one in found.remedies} >= {RemedyName.LOWER_RESOLUTION, RemedyName.LEANER_PLAN}
    assert advise(found).verdict is Verdict.ADVANCE


def test_the_trend_goes_by_whole_days_from_the_first_that_is_known(
    scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu
) -> None:
    for seconds in (1000.0, 100.0, 200.0, 300.0):  # the first is of a day of which nobody knows how much there was
        run(scheduler, clock, gpu, seconds)
        clock.advance(DAY - seconds)
        scheduler.fleet.sample(gpu.info.id, GpuSample(used_bytes=0, free_bytes=24 * GIB))
    growth = evidence(scheduler).growth
    assert (growth.days, growth.high, growth.given) == (3, True, False)
    assert growth.monthly == pytest.approx(100 / 200 * 30)
    assert evidence(scheduler, growth=Growth.expected(0.1)).growth.high is False


def test_attempts_out_of_memory_and_on_the_leanest_plan(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    began = clock.seconds
    run(scheduler, clock, gpu)
    scheduler.queue.submit(new_job())
    lease = gpu.must_claim()
    clock.advance(10)
    scheduler.leases.out_of_memory(lease, None, stage=Stage.DENOISING)
    lease = gpu.must_claim()
    assert lease.plan == "fp16-chunked"
    clock.advance(10)
    scheduler.leases.fail(lease, OUT_OF_MEMORY)
    found = evidence(scheduler)
    assert (found.attempts, found.out_of_memory, found.on_leanest) == (3, 2, 1)
    assert found.refused == [Refused("512x512x16", "out_of_memory", 1)]
    assert evidence(scheduler, until=began + 100).attempts == 1
    assert evidence(scheduler, since=began + 105).attempts == 2


@pytest.mark.parametrize(("terms", "saved"), [(Terms.SPOT, 30 * 24 * 2.0), (Terms.OWNED, None), (None, None)])
def test_a_card_saves_the_rent_of_the_dearest_gpu(
    scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu, terms: Terms | None, saved: float | None
) -> None:
    began = clock.seconds
    for _ in range(720):
        clock.advance(5)
        scheduler.fleet.sample(gpu.info.id, GpuSample(used_bytes=0, free_bytes=24 * GIB))
    prices = Prices(gpus={KIND: Price(2.0, terms)})
    payback = read(scheduler, prices, since=began, card_price=720.0).evidence.payback
    assert payback is not None
    assert payback.saved_month == (None if saved is None else pytest.approx(saved, rel=0.01))
    assert payback.months == (None if saved is None else pytest.approx(0.5, rel=0.01))
    assert read(scheduler, prices).evidence.payback is None


def test_the_window_is_a_week_and_ends_where_nothing_is_known(scheduler: Scheduler, clock: Clock) -> None:
    assert read(scheduler).window == (clock.seconds - 7 * DAY, clock.seconds)
    assert read(scheduler, since=-1e10, until=1e12, kept=2 * DAY).window == (clock.seconds - 2 * DAY, clock.seconds)
    for since, until in ((0.0, 0.0), (clock.seconds + 60, None), (None, 1.0)):
        with pytest.raises(InvalidParameter) as refused:
            read(scheduler, since=since, until=until)
        assert refused.value.field == "since"


def test_the_last_arrivals_are_replayed_with_each_card(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    scheduler.fleet.sample(gpu.info.id, GpuSample(used_bytes=0, free_bytes=24 * GIB))
    for _ in range(4):
        scheduler.queue.submit(new_job())
    cancelled = new_job()
    scheduler.queue.submit(cancelled)
    scheduler.queue.cancel(cancelled.id)
    clock.advance(1)
    found = read(scheduler, Prices(Price(1.0)), cards=[Card("A", 24 * GIB, 1.0, price=100.0, hour=2.0)]).comparison
    assert found is not None
    assert (found.arrivals, found.as_is.videos, found.as_is.impossible) == (4, 4, 0)
    (trial,) = found.trials
    assert trial.with_card.videos_per_hour == pytest.approx(2 * found.as_is.videos_per_hour)
    assert trial.with_card.wait_seconds_mean == pytest.approx(found.as_is.wait_seconds_mean / 3)
    assert found.as_is.cost_per_video is not None
    assert trial.with_card.cost_per_video == pytest.approx(1.5 * found.as_is.cost_per_video)
