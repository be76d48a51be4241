from scheduler.states import Directive
from tests.support.fleet import HALF_WAY
from tests.support.http import Site, check_problem


async def test_a_queued_job_is_cancelled_at_once_and_again_without_effect(site: Site) -> None:
    job_id = (await site.submit())["id"]
    first = await site.client.post(f"/v1/jobs/{job_id}/cancel")
    second = await site.client.post(f"/v1/jobs/{job_id}/cancel")
    assert first.status_code == second.status_code == 200
    assert first.json()["status"] == "cancelled"
    assert first.json() == second.json()


async def test_a_running_job_is_told_at_its_next_step(site: Site) -> None:
    job_id = (await site.submit())["id"]
    lease = site.gpu.must_claim()
    answer = await site.client.post(f"/v1/jobs/{job_id}/cancel")
    assert answer.json()["status"] == "running"
    assert site.scheduler.leases.report(lease, HALF_WAY) is Directive.CANCEL


async def test_a_finished_job_stays_finished(site: Site) -> None:
    job_id = await site.succeeded()
    answer = await site.client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


async def test_a_deleted_job_is_gone_with_its_files(site: Site) -> None:
    job_id = await site.succeeded()
    answer = await site.client.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    check_problem(await site.client.get(f"/v1/jobs/{job_id}"), 404, "not_found", job_id)
    check_problem(await site.client.delete(f"/v1/jobs/{job_id}"), 404, "not_found")
    assert site.leftovers() == []


async def test_a_job_that_has_not_ended_is_kept(site: Site) -> None:
    job_id = (await site.submit())["id"]
    check_problem(await site.client.delete(f"/v1/jobs/{job_id}"), 409, "invalid_state", "queued", "cancel it first")
    site.gpu.must_claim()
    check_problem(await site.client.delete(f"/v1/jobs/{job_id}"), 409, "invalid_state", "running")
    assert site.scheduler.blobs.size(site.stored(job_id).image_key) > 0
