"""Preempting a running job over HTTP."""

from typing import Any

import pytest

from scheduler.states import Directive
from tests.support.fleet import HALF_WAY
from tests.support.http import Site, check_problem


async def preempt(site: Site, job_id: str, **options: Any) -> Any:
    return await site.client.post(f"/v1/admin/jobs/{job_id}/preempt", **options)


async def test_a_running_job_is_asked_for_and_waits_at_its_old_place(site: Site) -> None:
    job = await site.submit()
    lease = site.gpu.must_claim()

    answer = await preempt(site, job["id"], json={"reason": "a demo is about to start"})

    assert answer.status_code == 200, answer.text
    assert (answer.json()["id"], answer.json()["status"]) == (job["id"], "running")
    assert site.scheduler.leases.report(lease, HALF_WAY) is Directive.RELEASE
    site.scheduler.leases.release(lease)
    waiting = (await site.client.get(f"/v1/jobs/{job['id']}")).json()
    assert (waiting["status"], waiting["queue"]["position"]) == ("queued", 1)
    events = (await site.client.get("/v1/admin/events", params={"subject": job["id"]})).json()["data"]
    (told,) = [event for event in events if event["type"] == "job.preempted"]
    assert (told["actor"], told["data"]["reason"]) == ("local", "a demo is about to start")


@pytest.mark.parametrize("options", [{}, {"json": {}}, {"json": {"reason": None}}])
async def test_a_reason_may_be_left_out(site: Site, options: dict[str, Any]) -> None:
    job = await site.submit()
    lease = site.gpu.must_claim()
    assert (await preempt(site, job["id"], **options)).status_code == 200
    assert (await preempt(site, job["id"], **options)).status_code == 200, "again"
    assert site.scheduler.leases.directive(lease) is Directive.RELEASE


async def test_a_job_that_does_not_run_is_a_conflict(site: Site) -> None:
    job = await site.submit()
    check_problem(await preempt(site, job["id"]), 409, "invalid_state", job["id"], "queued")
    site.finish(site.gpu.must_claim())
    check_problem(await preempt(site, job["id"]), 409, "invalid_state", job["id"], "succeeded")


async def test_what_is_no_job_is_not_found(site: Site) -> None:
    for job_id in ("job_01jd0000000000000000000000", "x", "y" * 3000):
        check_problem(await preempt(site, job_id), 404, "not_found", "no job")


@pytest.mark.parametrize(
    ("body", "field"), [({"reason": 7}, "reason"), ({"reason": "x" * 501}, "reason"), ({"until": 5}, "until")]
)
async def test_bad_bodies_are_refused(site: Site, body: dict[str, Any], field: str) -> None:
    job = await site.submit()
    lease = site.gpu.must_claim()
    problem = check_problem(await preempt(site, job["id"], json=body), 422, "invalid_parameter", field)
    assert problem["errors"][0]["field"] == field
    assert site.scheduler.leases.directive(lease) is Directive.CONTINUE


async def test_other_sites_may_not(site: Site) -> None:
    job = await site.submit()
    site.gpu.must_claim()
    foreign = await preempt(site, job["id"], headers={"Sec-Fetch-Site": "cross-site"})
    check_problem(foreign, 403, "cross_site")
