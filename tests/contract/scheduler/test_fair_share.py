"""Fair share: a tenant's flood ages only itself."""

import pytest

from scheduler.errors import InvalidParameter
from scheduler.limits import TenantLimits
from scheduler.service import Scheduler
from tests.contract.scheduler.test_order import run_all
from tests.support.databases import Clock
from tests.support.fleet import new_job, register_gpu


def set_share(scheduler: Scheduler, tenant: str, share: float | None) -> None:
    scheduler.tenants.set(tenant, TenantLimits(share=share), "me")


def submit(scheduler: Scheduler, tenant: str, **changes: object) -> str:
    return scheduler.queue.submit(new_job(tenant=tenant, **changes)).job.id


def test_a_neighbours_first_job_does_not_wait_for_a_flood(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    for tenant in ("flood", "neighbour"):
        set_share(scheduler, tenant, 1.0)
    flood = [submit(scheduler, "flood") for _ in range(20)]
    clock.advance(1.0)
    late = submit(scheduler, "neighbour")

    order = run_all(gpu)

    assert order.index(late) == 1, "the first of the flood came before; nothing else did"
    assert [job for job in order if job != late] == flood


def test_shares_divide_the_fleet(scheduler: Scheduler) -> None:
    """With twice the share, twice the work goes through while both have some."""
    gpu = register_gpu(scheduler)
    set_share(scheduler, "two", 2.0)
    set_share(scheduler, "one", 1.0)
    two = {submit(scheduler, "two") for _ in range(20)}
    one = {submit(scheduler, "one") for _ in range(20)}

    first = run_all(gpu)[:15]

    assert len(two.intersection(first)) == pytest.approx(10, abs=1)
    assert len(one.intersection(first)) == pytest.approx(5, abs=1)


def test_one_commit_of_many_jobs_moves_the_clock_as_singles_would(scheduler: Scheduler) -> None:
    scheduler_gpu = register_gpu(scheduler)
    set_share(scheduler, "a", 1.0)
    made = scheduler.queue.submit_many([new_job(tenant="a") for _ in range(3)])
    jobs = [one.job for one in made if not isinstance(one, Exception)]

    seconds = jobs[0].footprint.seconds
    assert [job.virtual_at - jobs[0].virtual_at for job in jobs] == pytest.approx([0, seconds, 2 * seconds])
    assert scheduler_gpu.claim() is not None


def test_a_clock_that_has_been_idle_is_the_present(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    set_share(scheduler, "a", 1.0)
    for _ in range(3):
        submit(scheduler, "a")
    clock.advance(1000)

    assert scheduler.queue.get(submit(scheduler, "a")).virtual_at == clock.seconds


def test_without_a_share_there_is_no_clock(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    set_share(scheduler, "a", 1.0)
    set_share(scheduler, "a", None)

    assert {scheduler.queue.get(submit(scheduler, tenant)).virtual_at for tenant in ("a", "b", "a")} == {clock.seconds}


@pytest.mark.parametrize("share", [0.0, 1e-9, -1.0, float("nan"), float("inf")])
def test_a_share_has_to_be_a_positive_number(scheduler: Scheduler, share: float) -> None:
    with pytest.raises(InvalidParameter, match="share must be from 1e-06"):
        set_share(scheduler, "a", share)
