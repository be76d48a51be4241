"""The operator's hand on single jobs and models: preempt, hold and release."""

from typing import Any

import pytest

from scheduler.records import Checkpoint
from scheduler.states import Directive
from tests.support.fleet import HALF_WAY, MODEL
from tests.support.http import Site, check_problem

NO_JOB = "/v1/admin/jobs/job_01jd0000000000000000000000/preempt"
HELD = f"/v1/admin/models/{MODEL.id}"


async def look(site: Site, job_id: str) -> dict[str, Any]:
    return dict((await site.client.get(f"/v1/jobs/{job_id}")).json())


@pytest.mark.parametrize("asked", [None, {}, {"reason": "a rush"}])
async def test_a_preempted_job_goes_on_from_its_checkpoint(site: Site, asked: dict[str, str] | None) -> None:
    job_id = (await site.submit())["id"]
    lease = site.gpu.must_claim()
    answer = await site.client.post(f"/v1/admin/jobs/{job_id}/preempt", json=asked)
    assert (answer.status_code, answer.json()["id"]) == (200, job_id)
    assert site.scheduler.leases.directive(lease) is Directive.RELEASE
    checkpoint = Checkpoint(f"jobs/{job_id}/1/checkpoint", 25, "f" * 64, lease.plan, 1000)
    site.scheduler.leases.release(lease, checkpoint=checkpoint)
    job = await look(site, job_id)
    assert (job["status"], job["attempts"], job["checkpoint_step"]) == ("queued", 0, 25)
    again = site.gpu.must_claim()
    site.scheduler.leases.resumed(again, 25)
    site.scheduler.leases.report(again, HALF_WAY)
    assert (await look(site, job_id))["resumed_from_step"] == 25


async def test_only_a_running_job_can_be_preempted(site: Site) -> None:
    job_id = (await site.submit())["id"]
    path = f"/v1/admin/jobs/{job_id}/preempt"
    check_problem(await site.client.post(path), 409, "invalid_state", job_id, "queued")
    long = await site.client.post(path, json={"reason": "x" * 501})
    check_problem(long, 422, "invalid_parameter", "reason", "500", "501")
    for unknown in (NO_JOB, "/v1/admin/jobs/x/preempt", f"/v1/admin/jobs/{'y' * 3000}/preempt"):
        check_problem(await site.client.post(unknown), 404, "not_found", "no job")


async def test_what_a_worker_notices_is_told(site: Site) -> None:
    job_id = (await site.submit())["id"]
    lease = site.gpu.must_claim()
    site.scheduler.leases.notice(lease, "something", "was noticed")
    (notice,) = (await look(site, job_id))["notices"]
    assert (notice["code"], notice["message"]) == ("something", "was noticed")
    assert notice["at"].endswith("Z")


async def test_the_jobs_of_a_held_model_wait_until_it_is_released(site: Site) -> None:
    held = await site.client.post(f"{HELD}/hold", json={"reason": "its numbers are bad"})
    assert (held.status_code, held.json()["id"], held.json()["held"]) == (200, MODEL.id, "its numbers are bad")
    (model,) = (await site.client.get("/v1/models")).json()["data"]
    assert model == held.json()
    job = await site.submit()
    assert site.gpu.claim() is None
    assert job["queue"]["wait"]["code"] == "model_held"
    assert "its numbers are bad" in job["queue"]["wait_reason"]
    for _ in range(2):
        released = await site.client.post(f"{HELD}/release")
        assert (released.status_code, released.json()["held"]) == (200, None)
    assert site.gpu.must_claim().job_id == job["id"]


async def test_a_models_id_may_be_written_as_one_segment(site: Site) -> None:
    path = HELD.replace("ali-vilab/", "ali-vilab%2F")
    assert (await site.client.post(f"{path}/hold", json={"reason": "why"})).json()["held"] == "why"
    assert (await site.client.post(f"{path}/release")).json()["held"] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, ("reason", "required")),
        ({"reason": " \n"}, ("reason", "empty")),
        ({"reason": "x" * 501}, ("reason", "500", "501")),
        ({"reason": "nul \x00"}, ("reason", "NUL")),
        ({"reason": "a", "until": 5}, ("until", "not a known field")),
    ],
)
async def test_bad_holds_are_refused(site: Site, body: dict[str, Any], words: tuple[str, ...]) -> None:
    check_problem(await site.client.post(f"{HELD}/hold", json=body), 422, "invalid_parameter", *words)
    (model,) = (await site.client.get("/v1/models")).json()["data"]
    assert model["held"] is None


@pytest.mark.parametrize("model", ["sora", "%00", "%F0%9F%A6%8A", "a/b/c", "x" * 3000])
async def test_unknown_models_are_404(site: Site, model: str) -> None:
    path = f"/v1/admin/models/{model}"
    check_problem(await site.client.post(f"{path}/hold", json={"reason": "a"}), 404, "not_found", "no model")
    check_problem(await site.client.post(f"{path}/release"), 404, "not_found", "no model")


async def test_other_sites_may_not_preempt_or_hold(site: Site) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    for path in (NO_JOB, f"{HELD}/hold", f"{HELD}/release"):
        answer = await site.client.post(path, json={"reason": "a"}, headers=foreign)
        check_problem(answer, 403, "cross_site")
