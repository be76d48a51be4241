"""What the front end logs about jobs names them."""

from typing import Any

from structlog.testing import capture_logs

from tests.support.http import Site


def about(logged: list[Any], event: str) -> dict[str, Any]:
    (line,) = (line for line in logged if line["event"] == event)
    return dict(line)


async def test_a_submission_and_each_request_for_the_job_name_it(site: Site) -> None:
    with capture_logs() as logged:
        job_id = (await site.submit())["id"]
    assert about(logged, "job submitted")["job_id"] == job_id
    for path in (f"/v1/jobs/{job_id}/cancel", f"/v1/jobs/{job_id}/retry"):
        with capture_logs() as logged:
            assert (await site.client.post(path)).is_success
        assert about(logged, "request")["job_id"] == job_id


async def test_a_preemption_names_the_attempt_and_its_lease(site: Site) -> None:
    job_id = (await site.submit())["id"]
    site.gpu.must_claim()
    with capture_logs() as logged:
        for _ in range(2):  # asking again changes nothing, and is no news
            answer = await site.client.post(f"/v1/admin/jobs/{job_id}/preempt", json={"reason": "room"})
            assert answer.status_code == 200
    line = about(logged, "job preempted")
    assert (line["job_id"], line["attempt"], line["lease"], line["reason"]) == (job_id, 1, 1, "room")


async def test_a_lease_that_is_taken_back_is_named(site: Site) -> None:
    for take_back in (site.scheduler.leases.expire_worker, site.scheduler.leases.release_worker):
        job_id = (await site.submit())["id"]
        lease = site.gpu.must_claim()
        with capture_logs() as logged:
            assert take_back(lease.worker_id) == [job_id]
        line = about(logged, "lease taken back")
        assert (line["job_id"], line["attempt"], line["lease"]) == (job_id, 1, 1)
        site.scheduler.queue.cancel(job_id)
