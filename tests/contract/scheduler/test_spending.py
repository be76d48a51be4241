"""What was spent, read from real databases: attempts as they end, and GPUs as they are sampled."""

from dataclasses import replace

import pytest

from scheduler.bills import Bill
from scheduler.prices import Price, Prices
from scheduler.records import GpuSample
from scheduler.service import Scheduler
from scheduler.spending import Spending
from tests.support.databases import Clock
from tests.support.fleet import ERROR, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu

DAY = 86_400.0
PRICES = Prices(Price(3600.0))  # a second costs 1
MEASURED_STAGES = replace(MEASURED, energy_joules=600.0, stage_seconds={"denoising": 9.0, "decoding": 1.0, "gap": 5.0})


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


def spent(scheduler: Scheduler, since: float | None = None, until: float | None = None, kept: float = 90 * DAY) -> Bill:
    return Spending(scheduler.database, scheduler.samples, kept).bill(PRICES, since, until)


def watch(scheduler: Scheduler, clock: Clock, seconds: float) -> None:
    """Let time pass, in which the GPU is sampled every five seconds."""
    for _ in range(int(seconds / 5)):
        clock.advance(5)
        scheduler.fleet.sample("GPU-0", GpuSample(used_bytes=0, free_bytes=2**34, power_watts=200.0))


def test_before_the_first_attempt_nothing_was_spent(scheduler: Scheduler) -> None:
    found = spent(scheduler)
    assert (found.gpus, found.cost, found.jobs.cost, found.tenants) == ([], 0.0, 0.0, [])


def test_jobs_and_idle_time_cost_what_the_gpu_does(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    began = clock.seconds
    watch(scheduler, clock, 100)
    scheduler.queue.submit(new_job(tenant="studio"))
    lease = gpu.must_claim()
    watch(scheduler, clock, 60)
    scheduler.leases.succeed(lease, RESULT, MEASURED_STAGES)
    watch(scheduler, clock, 40)
    found = spent(scheduler, began)
    (line,) = found.gpus
    assert (line.busy_seconds, line.online_seconds, line.idle_seconds) == pytest.approx((60, 200, 140), abs=5)
    assert (line.name, line.kind, line.energy_joules) == (
        "NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3090", pytest.approx(200 * line.online_seconds),
    )  # fmt: skip
    (studio,) = found.tenants
    assert (studio.name, studio.videos, studio.cost) == ("studio", 1, pytest.approx(60))
    assert found.stages == pytest.approx({"denoising": 54, "decoding": 6})
    assert studio.energy_joules == 600.0
    assert found.cost is not None
    assert found.cost == pytest.approx(line.online_seconds)


def test_attempts_that_share_failed_or_run(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    for _ in range(3):
        scheduler.queue.submit(new_job())
    first, second = gpu.must_claim(), gpu.must_claim()
    clock.advance(10)
    scheduler.leases.succeed(first, RESULT, MEASURED)
    clock.advance(10)
    scheduler.leases.fail(second, ERROR)
    gpu.must_claim()
    clock.advance(7)
    found = spent(scheduler)
    assert [(one.name, one.attempts, one.cost) for one in found.outcomes] == [
        ("failed", 1, pytest.approx(15)),
        ("running", 1, pytest.approx(7)),
        ("succeeded", 1, pytest.approx(5)),
    ]
    assert (found.jobs.videos, found.jobs.failed_cost, found.jobs.cost) == (1, pytest.approx(15), pytest.approx(27))
    assert found.stages == pytest.approx({"unmeasured": 27})


def test_a_deleted_job_has_cost_what_it_cost(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    job = new_job(tenant="studio")
    scheduler.queue.submit(job)
    lease = gpu.must_claim()
    clock.advance(10)
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    scheduler.queue.delete(job.id)
    assert [(one.name, one.cost) for one in spent(scheduler).tenants] == [("studio", pytest.approx(10))]


def test_a_window_has_what_overlaps_it(scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu) -> None:
    began = clock.seconds
    for _ in range(3):
        scheduler.queue.submit(new_job())
        lease = gpu.must_claim()
        clock.advance(100)
        scheduler.leases.succeed(lease, RESULT, MEASURED)
        clock.advance(20)
    found = spent(scheduler, began + 60, began + 150)
    assert (found.window, found.jobs.attempts, found.jobs.videos) == ((began + 60, began + 150), 2, 1)
    assert found.jobs.gpu_seconds == pytest.approx(40 + 30)
    before_all = spent(scheduler, began - DAY, began)
    assert (before_all.jobs.attempts, before_all.gpus) == (0, [])


def test_the_default_are_thirty_days_until_now(scheduler: Scheduler, clock: Clock) -> None:
    assert spent(scheduler).window == (clock.seconds - 30 * DAY, clock.seconds)
    assert spent(scheduler, until=clock.seconds - DAY).window == (clock.seconds - 31 * DAY, clock.seconds - DAY)


def test_it_goes_back_as_far_as_attempts_are_kept_and_not_beyond_now(scheduler: Scheduler, clock: Clock) -> None:
    for since, until in ((-1e10, 1e12), (clock.seconds - 9 * DAY, None)):
        assert spent(scheduler, since, until, kept=7 * DAY).window == (clock.seconds - 7 * DAY, clock.seconds)


@pytest.mark.parametrize(
    ("since", "until"),
    [(60.0, None), (60.0, 90.0), (None, -100 * DAY), (-200 * DAY, -100 * DAY), (-50.0, -50.0), (-50.0, -60.0)],
)
def test_no_time_a_time_to_come_and_one_too_long_ago_have_cost_nothing(
    scheduler: Scheduler, clock: Clock, gpu: RegisteredGpu, since: float | None, until: float | None
) -> None:
    scheduler.queue.submit(new_job())
    gpu.must_claim()
    clock.advance(100)
    at = [None if distance is None else clock.seconds + distance for distance in (since, until)]
    found = spent(scheduler, *at)
    assert found.window[0] == found.window[1]
    assert (found.cost, found.jobs.attempts, found.gpus, found.month_cost) == (0.0, 0, [], None)
