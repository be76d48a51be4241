"""Deadlines as callers see them."""

from tests.support.fleet import HALF_WAY, new_job
from tests.support.http import MEASURED, Site, until


def submit(site: Site, seconds: float) -> str:
    with site.scheduler.database.read() as conn:
        deadline_at = site.scheduler.database.now(conn) + seconds
    return site.scheduler.queue.submit(new_job(deadline_at=deadline_at)).job.id


async def test_a_late_job_fails_and_says_why(site: Site) -> None:
    """The front end's own reaper notices."""
    job_id = submit(site, 0.0)
    await until(lambda: site.stored(job_id).status.ended)
    job = (await site.client.get(f"/v1/jobs/{job_id}")).json()
    assert (job["status"], job["error"]["code"]) == ("failed", "deadline_exceeded")
    moment = job["deadline"].rstrip("0Z").rstrip(".")
    assert moment in job["error"]["message"]
    assert job["finished_at"] >= job["deadline"]


async def test_a_late_job_that_runs_is_asked_to_stop(site: Site) -> None:
    job_id = submit(site, 0.2)
    lease = site.gpu.must_claim()
    site.scheduler.leases.report(lease, HALF_WAY)
    await until(lambda: site.stored(job_id).cancel_requested)
    job = (await site.client.get(f"/v1/jobs/{job_id}")).json()
    assert (job["status"], job["cancel_requested"]) == ("running", True)
    site.scheduler.leases.cancelled(lease, MEASURED)
    job = (await site.client.get(f"/v1/jobs/{job_id}")).json()
    assert (job["status"], job["error"]["code"], job["video"]) == ("failed", "deadline_exceeded", None)


async def test_a_job_without_a_deadline_says_so(site: Site) -> None:
    assert (await site.submit())["deadline"] is None
