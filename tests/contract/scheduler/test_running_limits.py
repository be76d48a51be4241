"""A tenant's limit of running jobs: never exceeded, and never a reason for a GPU to be idle."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select

from scheduler.claiming import Scan
from scheduler.limits import TenantLimits
from scheduler.plans import GPU_PLANS
from scheduler.policy import Policy
from scheduler.records import GpuSample, Job, Lease
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from scheduler.store import claims
from scheduler.store import schema as s
from scheduler.store.claims import Line
from scheduler.waits import Blocker
from tests.contract.scheduler.test_plans import LARGE as TOO_LARGE_FOR_ITS_PLAN
from tests.contract.scheduler.test_plans import busy_and_idle
from tests.support.databases import Clock
from tests.support.fleet import (
    ERROR,
    GIB,
    HALF_WAY,
    MEASURED,
    MODEL,
    RESULT,
    RegisteredGpu,
    demand_bytes,
    new_job,
    register_gpu,
)

__all__ = ["busy_and_idle"]

pytestmark = pytest.mark.usefixtures("fixed_sizes")

LARGE = {"width": 768, "height": 768, "num_frames": 24}


@pytest.fixture
def policy() -> Policy:
    return Policy(reserve_after_seconds=30.0, unschedulable_grace_seconds=0.0)


def limit(scheduler: Scheduler, tenant: str, max_running: int | None) -> None:
    scheduler.tenants.set(tenant, TenantLimits(max_running=max_running), "alice")


def submit(scheduler: Scheduler, tenant: str, **changes: object) -> Job:
    return scheduler.queue.submit(new_job(tenant=tenant, **changes)).job


def running(scheduler: Scheduler, tenant: str) -> int:
    states = s.job_states.c
    count = select(func.count()).where(states.tenant == tenant, states.status == JobStatus.RUNNING)
    with scheduler.database.read() as conn:
        return int(conn.execute(count).scalar_one())


def succeed(scheduler: Scheduler, lease: Lease) -> None:
    scheduler.leases.succeed(lease, RESULT, MEASURED)


@pytest.fixture
def gpus(scheduler: Scheduler) -> list[RegisteredGpu]:
    return [register_gpu(scheduler, f"GPU-{number}") for number in range(2)]


def test_a_tenant_at_its_limit_waits_and_the_others_start(scheduler: Scheduler, gpus: list[RegisteredGpu]) -> None:
    limit(scheduler, "flood", 1)
    limit(scheduler, "third", 1)
    flood = [submit(scheduler, "flood", priority=9.0) for _ in range(3)]
    other, third = submit(scheduler, "other", priority=2.0), submit(scheduler, "third")

    leases = [gpus[number % 2].must_claim() for number in range(3)]

    assert [lease.job_id for lease in leases] == [flood[0].id, other.id, third.id]
    assert gpus[0].claim() is None
    succeed(scheduler, leases[0])
    assert gpus[1].must_claim().job_id == flood[1].id


def test_jobs_of_one_lane_count_each(scheduler: Scheduler, gpus: list[RegisteredGpu]) -> None:
    limit(scheduler, "acme", 2)
    for _ in range(3):
        submit(scheduler, "acme")

    assert [gpus[0].claim(lane=0) is not None for _ in range(3)] == [True, True, False]


def test_all_models_and_plans_count_together(scheduler: Scheduler) -> None:
    first, second = register_gpu(scheduler), register_gpu(scheduler, "GPU-1", model="second")
    limit(scheduler, "acme", 1)
    submit(scheduler, "acme")
    submit(scheduler, "acme", model="second")

    assert first.claim() is not None
    assert second.claim() is None


def test_a_limit_of_none_starts_nothing(scheduler: Scheduler, gpus: list[RegisteredGpu]) -> None:
    limit(scheduler, "acme", 0)
    submit(scheduler, "acme")

    assert gpus[0].claim() is None


END: dict[str, Callable[[Scheduler, Lease, Clock], object]] = {
    "success": lambda scheduler, lease, _: succeed(scheduler, lease),
    "failure": lambda scheduler, lease, _: scheduler.leases.fail(lease, ERROR),
    "release": lambda scheduler, lease, _: scheduler.leases.release(lease),
    "retry": lambda scheduler, lease, _: scheduler.leases.retry(lease, ERROR),
    "cancel": lambda scheduler, lease, _: (
        scheduler.queue.cancel(lease.job_id),
        scheduler.leases.cancelled(lease),
    ),
    "expiry": lambda scheduler, _, clock: (clock.advance(10.5), scheduler.leases.expire_silent()),
    "a lost worker": lambda scheduler, lease, _: scheduler.fleet.worker_gone(lease.worker_id),
}


@pytest.mark.parametrize("how", END)
def test_every_end_gives_the_place_back(
    scheduler: Scheduler, gpus: list[RegisteredGpu], clock: Clock, how: str
) -> None:
    limit(scheduler, "acme", 1)
    for _ in range(2):
        submit(scheduler, "acme")
    lease = gpus[0].must_claim()
    assert gpus[1].claim() is None

    END[how](scheduler, lease, clock)

    assert gpus[1].claim() is not None
    assert gpus[1].claim() is None
    assert running(scheduler, "acme") == 1


def test_a_limit_that_is_changed_holds_for_what_waits(scheduler: Scheduler, gpus: list[RegisteredGpu]) -> None:
    for _ in range(6):
        submit(scheduler, "acme")
    gpu = gpus[0]
    leases = [gpu.must_claim(), gpu.must_claim()]

    limit(scheduler, "acme", 1)
    assert gpu.claim() is None
    succeed(scheduler, leases[0])
    assert gpu.claim() is None, "it still runs one"
    limit(scheduler, "acme", 2)
    assert gpu.claim() is not None
    assert gpu.claim() is None
    limit(scheduler, "acme", None)
    assert gpu.claim() is not None


def test_a_job_that_was_given_back_waits_for_a_place_like_any_other(
    scheduler: Scheduler, gpus: list[RegisteredGpu]
) -> None:
    limit(scheduler, "acme", 1)
    first, second = submit(scheduler, "acme", priority=9.0), submit(scheduler, "acme")
    scheduler.leases.release(gpus[0].must_claim())
    assert gpus[0].must_claim().job_id == first.id

    assert gpus[1].claim() is None
    assert scheduler.queue.get(second.id).status is JobStatus.QUEUED


class TestByDefault:
    """A limit for tenants that have none of their own, and no row either."""

    @pytest.fixture
    def policy(self) -> Policy:
        return Policy(tenant_limits=TenantLimits(max_running=1))

    def test_it_holds_for_each_tenant(self, scheduler: Scheduler, gpus: list[RegisteredGpu]) -> None:
        limit(scheduler, "large", 2)
        for tenant in ("small", "tiny", "large"):
            for _ in range(3):
                submit(scheduler, tenant)

        while any(gpu.claim() for gpu in gpus):
            pass

        assert [running(scheduler, tenant) for tenant in ("small", "tiny", "large")] == [1, 1, 2]


@pytest.mark.parametrize("tenants", [1, 3])
def test_claims_at_once_never_exceed_it_and_leave_no_place_free(scheduler: Scheduler, tenants: int) -> None:
    """Each round all GPUs claim together; exactly as many start as may."""
    names = [f"tenant-{number}" for number in range(tenants)]
    gpus = [register_gpu(scheduler, f"GPU-{number}") for number in range(4)]
    for name in names:
        limit(scheduler, name, 1)
    rounds = 12
    scheduler.queue.submit_many([new_job(tenant=name) for name in names for _ in range(rounds)])
    together = Barrier(len(gpus))

    def claim(gpu: RegisteredGpu) -> Lease | None:
        together.wait()
        return gpu.claim()

    with ThreadPoolExecutor(len(gpus)) as threads:
        for _ in range(rounds):
            leases = [lease for lease in threads.map(claim, gpus) if lease is not None]

            assert [running(scheduler, name) for name in names] == [1] * tenants
            assert len(leases) == tenants
            for lease in leases:
                succeed(scheduler, lease)


def test_claims_and_endings_in_any_order_never_exceed_it(scheduler: Scheduler) -> None:
    """Four workers go on claiming and ending while a limit of two holds; all jobs get done."""
    gpus = [register_gpu(scheduler, f"GPU-{number}") for number in range(4)]
    limit(scheduler, "acme", 2)
    jobs = 40
    scheduler.queue.submit_many([new_job(tenant="acme" if number % 4 else "other") for number in range(jobs)])
    ends = (succeed, lambda opened, lease: opened.leases.release(lease), succeed)

    def work(number: int) -> int:
        most = 0
        for turn in range(1000):
            if not scheduler.queue.list_jobs(statuses=[JobStatus.QUEUED], limit=1):
                break
            lease = gpus[number].claim()
            most = max(most, running(scheduler, "acme"))
            if lease is not None:
                ends[(turn + number) % 3](scheduler, lease)
        return most

    with ThreadPoolExecutor(len(gpus)) as threads:
        most = max(threads.map(work, range(len(gpus))))

    assert most <= 2
    assert {job.status for job in scheduler.queue.list_jobs(limit=jobs)} == {JobStatus.SUCCEEDED}


def visits(scheduler: Scheduler, scan: Scan, lines: list[Line]) -> int:
    """How much work a scan is, in what the engine counts: SQLite's instructions, or PostgreSQL's rows."""
    sql = scan(len(lines))[-1].sql("sqlite" if scheduler.database.is_sqlite else "postgresql", "0")
    values = claims.parameters(lines, None, window_open=True) | {"depth": 0, "deep": 8, "within_seconds": 9.0}
    with scheduler.database.trip() as trip:
        cursor = trip.cursor()
        if scheduler.database.is_sqlite:
            steps: list[None] = []
            cursor.connection.set_progress_handler(lambda: steps.append(None), 1)
            cursor.execute(sql, values).fetchall()
            cursor.connection.set_progress_handler(None, 1)
            return len(steps)
        # A table that was tiny when its statistics were taken is read whole, until it has grown by some pages.
        cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", values)
        (plans,) = cursor.fetchone()
        cursor.execute("RESET enable_seqscan")
        plans = json.loads(plans) if isinstance(plans, str) else plans
        return _rows(plans[0]["Plan"])


def _rows(plan: dict[str, Any]) -> int:
    own = plan["Actual Rows"] * plan["Actual Loops"] + plan.get("Rows Removed by Filter", 0)
    return int(own) + sum(_rows(part) for part in plan.get("Plans", []))


@pytest.mark.parametrize("scan", [claims.best, claims.best_in_time, claims.blocked])
def test_a_scan_passes_a_closed_gate_in_one_seek(scheduler: Scheduler, gpus: list[RegisteredGpu], scan: Scan) -> None:
    """However many jobs of a tenant at its limit are at the head of the queue."""
    limit(scheduler, "flood", 1)
    submit(scheduler, "flood", priority=9.0)
    gpus[0].must_claim()
    submit(scheduler, "other")
    lines = [Line(MODEL.id, plan, above=0, largest=999) for plan in GPU_PLANS]
    scheduler.queue.submit_many([new_job(tenant="flood", priority=9.0) for _ in range(200)])
    visits(scheduler, scan, lines)  # SQLite counts what it takes to compile a statement, too
    few = visits(scheduler, scan, lines)

    for _ in range(4):
        scheduler.queue.submit_many([new_job(tenant="flood", priority=9.0) for _ in range(250)])

    assert visits(scheduler, scan, lines) <= few, "by whatever plan PostgreSQL made of the few"


def test_no_gpu_is_reserved_for_a_job_that_could_not_start(scheduler: Scheduler, clock: Clock) -> None:
    large, small = new_job(tenant="acme", **LARGE), {"num_inference_steps": 10}
    gpu = register_gpu(scheduler, workers=3, total_bytes=GIB + 18 * GIB + 7 * GIB)
    other = register_gpu(scheduler, "GPU-1", total_bytes=GIB + 6 * GIB + 3 * GIB)
    limit(scheduler, "acme", 1)
    running_here = submit(scheduler, "other", **small)
    assert gpu.must_claim().job_id == running_here.id
    scheduler.queue.submit(large)
    clock.advance(31)
    assert gpu.claim(worker=1) is None
    kept = scheduler.fleet.gpu("GPU-0").reservation
    assert kept is not None
    assert kept.job_id == large.id
    submit(scheduler, "acme", priority=9.0, **small)
    assert other.must_claim().job_id != large.id, "which fills its tenant's only place"

    late = submit(scheduler, "other")

    assert gpu.must_claim(worker=1).job_id == late.id
    assert scheduler.fleet.gpu("GPU-0").reservation is None
    assert gpu.claim(worker=2) is None
    assert scheduler.fleet.gpu("GPU-0").reservation is None


def test_a_reserved_gpu_is_not_taken_by_a_job_without_a_place(scheduler: Scheduler, clock: Clock) -> None:
    """Its reservation is for a job that fits by now, and whose tenant runs as many as it may."""
    large = new_job(tenant="acme", **LARGE)
    gpu = register_gpu(scheduler, workers=2, total_bytes=GIB + 12 * GIB + 7 * GIB)
    other = register_gpu(scheduler, "GPU-1")
    limit(scheduler, "acme", 1)
    submit(scheduler, "other")
    first = gpu.must_claim()
    scheduler.queue.submit(large)
    clock.advance(31)
    assert gpu.claim(worker=1) is None
    assert scheduler.fleet.gpu("GPU-0").reservation is not None
    submit(scheduler, "acme", priority=99.0, num_inference_steps=10)
    second = other.must_claim()
    succeed(scheduler, first)

    assert gpu.claim() is None
    succeed(scheduler, second)
    assert gpu.must_claim().job_id == large.id


def test_an_idle_worker_is_fed_past_a_tenant_at_its_limit(
    scheduler: Scheduler, busy_and_idle: tuple[RegisteredGpu, RegisteredGpu]
) -> None:
    """Neither does a job that may not start count as work for it, nor is such a one replanned."""
    limit(scheduler, "flood", 0)
    small = {"width": 256, "height": 256, "num_frames": 8}
    flood = [submit(scheduler, "flood", priority=9.0, **size) for size in (small, TOO_LARGE_FOR_ITS_PLAN)]
    job = submit(scheduler, "other", **TOO_LARGE_FOR_ITS_PLAN)
    _, idle = busy_and_idle
    assert idle.claim() is None

    assert scheduler.reaper.run_once().replanned_jobs == [job.id]

    assert {scheduler.queue.get(one.id).footprint.plan for one in flood} == {"fp16"}
    assert idle.must_claim().job_id == job.id


def test_a_job_that_no_gpu_holds_any_more_ends_behind_a_gate_too(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    limit(scheduler, "acme", 0)
    jobs = [submit(scheduler, tenant, **LARGE) for tenant in ("acme", "other")]
    fits = submit(scheduler, "acme")
    register_gpu(scheduler, workers=0, total_bytes=GIB + 6 * GIB + demand_bytes(jobs[0]) - 1)
    clock.advance(1)
    refused = list(scheduler.reaper.run_once().refused_jobs)
    clock.advance(11)
    scheduler.fleet.sample("GPU-0", GpuSample(0, 24 * GIB))

    refused += scheduler.reaper.run_once().refused_jobs

    assert sorted(refused) == sorted(job.id for job in jobs)
    assert scheduler.queue.get(fits.id).status is JobStatus.QUEUED


class TestWhyItWaits:
    """What such a job is told."""

    def test_it_says_how_many_run_and_when_there_is_a_place(
        self, scheduler: Scheduler, gpus: list[RegisteredGpu], clock: Clock
    ) -> None:
        limit(scheduler, "acme", 2)
        jobs = [submit(scheduler, "acme") for _ in range(3)]
        leases = [gpu.must_claim() for gpu in gpus]
        scheduler.leases.report(leases[0], HALF_WAY)
        seconds = jobs[0].footprint.seconds
        gpus[0].add_worker()

        waiting = scheduler.queue.explain(jobs[2])

        assert waiting is not None
        assert waiting.wait.code is Blocker.TENANT_LIMIT
        assert waiting.wait.message == "its tenant runs 2 jobs at once, as many as it may"
        assert waiting.wait.clears_when == "one of its tenant's jobs ends"
        assert waiting.wait.details == {"running": 2, "limit": 2}
        assert waiting.eta_seconds == pytest.approx(seconds / 2)

        succeed(scheduler, leases[1])
        waiting = scheduler.queue.explain(jobs[2])
        assert waiting is not None
        assert waiting.wait.code is Blocker.DISPATCHING
        assert waiting.eta_seconds == 0.0

    def test_nobody_can_tell_when_a_tenant_that_may_run_none_has_a_place(
        self, scheduler: Scheduler, gpus: list[RegisteredGpu]
    ) -> None:
        limit(scheduler, "acme", 0)
        waiting = scheduler.queue.explain(submit(scheduler, "acme"))

        assert waiting is not None
        assert waiting.wait.code is Blocker.TENANT_LIMIT
        assert (waiting.start, waiting.finish) == (None, None)


class TestOutlook:
    """What a job would be told that has not been submitted."""

    def test_it_is_what_the_submitted_job_is_told(
        self, scheduler: Scheduler, gpus: list[RegisteredGpu], clock: Clock
    ) -> None:
        scheduler.tenants.set("acme", TenantLimits(share=2.0), "alice")
        for tenant in ("acme", "other"):
            scheduler.queue.submit_many([new_job(tenant=tenant, priority=priority) for priority in (0.5, 1.0, 4.0)])
        for gpu in gpus:
            gpu.must_claim()
        params = new_job(num_inference_steps=30).params

        for tenant, priority in (("acme", 1.0), ("other", 2.0), ("new", 0.1)):
            asked = scheduler.queue.outlook(MODEL.id, params, priority=priority, tenant=tenant)
            job = submit(scheduler, tenant, priority=priority, num_inference_steps=30)

            assert scheduler.queue.explain(job) == asked
            scheduler.queue.cancel(job.id)

    def test_it_knows_the_tenants_limit(self, scheduler: Scheduler, gpus: list[RegisteredGpu]) -> None:
        limit(scheduler, "acme", 1)
        submit(scheduler, "acme")
        gpus[0].must_claim()

        asked = scheduler.queue.outlook(MODEL.id, new_job().params, tenant="acme")

        assert asked.wait.code is Blocker.TENANT_LIMIT
        assert scheduler.queue.outlook(MODEL.id, new_job().params).wait.code is Blocker.DISPATCHING
