"""Repeating a job that failed or was cancelled."""

from typing import Any

import httpx
import pytest

from scheduler.errors import QueueFull
from scheduler.ids import new_id
from scheduler.keys import Scope
from scheduler.records import Job
from scheduler.states import JobStatus
from tests.support.fleet import ERROR, new_job
from tests.support.http import Site, check_problem, picture

KEPT = ("tenant", "model", "prompt", "params", "priority", "metadata", "webhook_url", "webhook_events")

_USUAL = frozenset({Scope.SUBMIT, Scope.READ})


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first key have its effect at once."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


async def retry(site: Site, job_id: str, **headers: str) -> httpx.Response:
    return await site.client.post(f"/v1/jobs/{job_id}/retry", headers=headers)


async def failed(site: Site, **fields: str | list[str]) -> str:
    job_id = str((await site.submit(**fields))["id"])
    site.scheduler.leases.fail(site.gpu.must_claim(), ERROR)
    return job_id


def image(site: Site, job: Job) -> bytes:
    blobs = site.scheduler.blobs
    return b"".join(blobs.read(job.image_key, 0, blobs.size(job.image_key)))


async def test_a_failed_job_becomes_a_new_one(site: Site) -> None:
    old_id = await failed(site, seed="7", priority="2.5", metadata='{"shot": "12"}')

    answer = await retry(site, old_id)

    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["etag"] == (await site.client.get(f"/v1/jobs/{job['id']}")).headers["etag"]
    assert (job["status"], job["retry_of"], job["attempts"], job["error"]) == ("queued", old_id, 0, None)
    assert job["params"]["seed"] == 7
    old, new = site.stored(old_id), site.stored(job["id"])
    assert [getattr(new, name) for name in KEPT] == [getattr(old, name) for name in KEPT]
    assert old.status is JobStatus.FAILED
    assert new.image_key.startswith(f"jobs/{new.id}/")
    assert image(site, new) == image(site, old)
    assert site.gpu.must_claim().job_id == new.id


async def test_what_it_was_told_at_its_submission_is_kept_but_for_its_deadline(site: Site) -> None:
    old = new_job(
        tenant="studio",
        webhook_url="https://example.com/hook",
        webhook_events=("job.failed",),
        result_ttl_seconds=3600.0,
        deadline_at=4_000_000_000.0,
    )
    path = site.temporary / "in.png"
    path.write_bytes(picture())
    site.scheduler.blobs.put_file(old.image_key, path)
    path.unlink()
    site.scheduler.queue.submit(old)
    site.scheduler.queue.cancel(old.id)

    new = site.stored((await retry(site, old.id)).json()["id"])

    assert [getattr(new, name) for name in KEPT] == [getattr(site.stored(old.id), name) for name in KEPT]
    assert (new.result_ttl_seconds, new.deadline_at, new.retry_of) == (3600.0, None, old.id)


async def test_the_operators_retry_is_the_tenants_job(site: Site) -> None:
    secrets = {
        tenant: site.scheduler.keys.create(tenant, tenant=tenant, scopes=scopes, actor="test")[1]
        for tenant, scopes in (("studio", _USUAL), ("other", _USUAL), ("operator", frozenset(Scope)))
    }
    headers = {tenant: {"Authorization": f"Bearer {secret}"} for tenant, secret in secrets.items()}
    old_id = (await site.post(headers=headers["studio"])).json()["id"]
    site.scheduler.queue.cancel(old_id)

    check_problem(await retry(site, old_id, **headers["other"]), 404, "not_found")
    answer = await retry(site, old_id, **headers["operator"])

    assert (answer.status_code, answer.json()["tenant"]) == (202, "studio")
    again = await site.client.get(answer.headers["location"], headers=headers["studio"])
    assert again.json()["retry_of"] == old_id


async def test_the_old_job_may_go(site: Site) -> None:
    old_id = await failed(site)
    new = (await retry(site, old_id)).json()
    assert (await site.client.delete(f"/v1/jobs/{old_id}")).status_code == 204
    site.finish(site.gpu.must_claim())
    job = (await site.client.get(f"/v1/jobs/{new['id']}")).json()
    assert (job["status"], job["retry_of"]) == ("succeeded", old_id)


async def test_only_what_failed_or_was_cancelled_is_repeated(site: Site) -> None:
    succeeded = await site.succeeded()
    running = (await site.submit())["id"]
    site.gpu.must_claim()
    queued = (await site.submit())["id"]
    for job_id, status in ((succeeded, "succeeded"), (running, "running"), (queued, "queued")):
        check_problem(await retry(site, job_id), 409, "invalid_state", status, "only failed and cancelled")
    check_problem(await retry(site, new_id("job")), 404, "not_found")
    assert len(site.scheduler.blobs.folders("jobs")) == 3


async def test_the_same_key_makes_one_job(site: Site) -> None:
    old_id, other_id = await failed(site), await failed(site)
    key = {"Idempotency-Key": "again"}
    first, second = await retry(site, old_id, **key), await retry(site, old_id, **key)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    check_problem(await retry(site, other_id, **key), 422, "idempotency_key_reused")
    check_problem(await site.post(headers=key), 422, "idempotency_key_reused")
    assert (await retry(site, old_id)).json()["id"] != first.json()["id"], "without a key each is a new one"
    assert len(site.scheduler.blobs.folders("jobs")) == 4


@pytest.mark.parametrize("key", ["", "k" * 256, "caf\xe9"])
async def test_a_key_that_is_none_is_refused(site: Site, key: str) -> None:
    headers: Any = {b"Idempotency-Key": key.encode("latin-1")}
    answer = await site.client.post(f"/v1/jobs/{await failed(site)}/retry", headers=headers)
    check_problem(answer, 422, "invalid_parameter")


async def test_without_its_image_there_is_nothing_to_repeat(site: Site) -> None:
    old_id = await failed(site)
    site.scheduler.blobs.delete_prefix(f"jobs/{old_id}")
    check_problem(await retry(site, old_id), 410, "result_expired", old_id)
    assert site.scheduler.blobs.folders("jobs") == []
    assert list(site.temporary.iterdir()) == []


async def test_a_refused_retry_leaves_no_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    old_id = await failed(site)

    def full(_new: object) -> None:
        raise QueueFull("the queue is full", retry_after_seconds=2.0, limit=1)

    monkeypatch.setattr(site.scheduler.queue, "submit", full)
    check_problem(await retry(site, old_id), 429, "queue_full")
    assert site.scheduler.blobs.folders("jobs") == [old_id]


async def test_a_full_disk_is_said(opened: Any) -> None:
    async with opened(min_free_disk_bytes=2**62) as site:
        old = new_job()
        site.scheduler.queue.submit(old)
        site.scheduler.queue.cancel(old.id)
        check_problem(await retry(site, old.id), 507, "storage_full")
