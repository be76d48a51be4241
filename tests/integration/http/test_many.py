"""Cancelling and repeating several jobs with one call: each is answered by itself."""

from typing import Any

import httpx
import pytest

from scheduler.errors import StoreUnreachable, TenantQueueFull
from scheduler.ids import new_id
from scheduler.keys import Scope
from scheduler.limits import TenantLimits
from scheduler.records import Job
from scheduler.states import JobStatus
from tests.support.fleet import ERROR, new_job
from tests.support.http import Site, check_problem


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first key have its effect at once."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


async def send(site: Site, action: str, ids: Any, **headers: str) -> httpx.Response:
    return await site.client.post(f"/v1/jobs/{action}", json={"ids": ids}, headers=headers)


async def outcomes(site: Site, action: str, ids: list[str], **headers: str) -> list[dict[str, Any]]:
    answer = await send(site, action, ids, **headers)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["object"], body["has_more"], body["next_cursor"]) == ("list", False, None)
    assert [one["id"] for one in body["data"]] == ids
    return list(body["data"])


def codes(found: list[dict[str, Any]]) -> list[str | None]:
    return [one["problem"] and one["problem"]["code"] for one in found]


def bearer(site: Site, tenant: str, *scopes: Scope) -> dict[str, str]:
    chosen = scopes or (Scope.SUBMIT, Scope.READ)
    _, secret = site.scheduler.keys.create("laptop", tenant=tenant, scopes=chosen, actor="test")
    return {"Authorization": f"Bearer {secret}"}


async def failed(site: Site) -> str:
    job_id = str((await site.submit())["id"])
    site.scheduler.leases.fail(site.gpu.must_claim(), ERROR)
    return job_id


async def test_each_job_is_cancelled_whatever_becomes_of_the_others(site: Site) -> None:
    ended, running = await site.succeeded(), str((await site.submit())["id"])
    site.gpu.must_claim()
    queued, unknown = str((await site.submit())["id"]), new_id("job")

    found = await outcomes(site, "cancel", [unknown, ended, running, "not an id", queued])

    assert codes(found) == ["not_found", None, None, "not_found", None]
    assert found[0]["problem"] == {
        "status": 404, "code": "not_found", "detail": f"no job {unknown}", "retry_after_seconds": None,
    }  # fmt: skip
    assert [found[index]["job"]["status"] for index in (1, 2, 4)] == ["succeeded", "running", "cancelled"]
    assert found[2]["job"]["cancel_requested"]
    assert found[4]["job"] == (await site.client.get(f"/v1/jobs/{queued}")).json()


async def test_each_retry_is_a_new_job(site: Site) -> None:
    old = [await failed(site), await failed(site)]
    succeeded = await site.succeeded()

    found = await outcomes(site, "retry", [old[0], succeeded, old[1]])

    assert codes(found) == [None, "invalid_state", None]
    new = [found[0]["job"], found[2]["job"]]
    assert [job["retry_of"] for job in new] == old
    assert [job["queue"]["position"] for job in new] == [1, 2]
    assert all(site.stored(job["id"]).status is JobStatus.QUEUED for job in new)


async def test_a_repeated_key_gets_the_same_jobs_and_makes_the_missing_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, queue = [await failed(site), await failed(site)], site.scheduler.queue
    real = queue.submit

    def full(new: Any) -> Any:
        if new.retry_of == old[1]:
            raise TenantQueueFull("1 job is waiting, as many as it may", 3.2, 1)
        return real(new)

    with monkeypatch.context() as patch:
        patch.setattr(queue, "submit", full)
        first = await outcomes(site, "retry", old, **{"Idempotency-Key": "again"})
    assert codes(first) == [None, "tenant_queue_full"]
    assert (first[1]["problem"]["status"], first[1]["problem"]["retry_after_seconds"]) == (429, 4)

    second = await outcomes(site, "retry", old, **{"Idempotency-Key": "again"})
    assert codes(second) == [None, None]
    assert second[0]["job"]["id"] == first[0]["job"]["id"]
    assert second[1]["job"]["retry_of"] == old[1]


async def test_each_retry_counts_as_a_submit(site: Site) -> None:
    old = [site.scheduler.queue.submit(new_job(tenant="acme")).job.id for _ in range(3)]
    key = bearer(site, "acme")
    assert codes(await outcomes(site, "cancel", old, **key)) == [None] * 3
    site.scheduler.tenants.set("acme", TenantLimits(submits_per_minute=2), "test")

    found = await outcomes(site, "retry", old, **key)

    # The images of these jobs were never stored: what counts is what was tried.
    assert codes(found) == ["result_expired", "result_expired", "rate_limited"]
    assert found[2]["problem"]["retry_after_seconds"] > 0


async def test_a_job_of_another_tenant_is_not_there(site: Site) -> None:
    theirs = site.scheduler.queue.submit(new_job(tenant="theirs")).job.id
    key, unknown = bearer(site, "ours"), new_id("job")
    for action in ("cancel", "retry"):
        found = await outcomes(site, action, [theirs, unknown], **key)
        assert found[0]["problem"]["detail"].replace(theirs, unknown) == found[1]["problem"]["detail"]
        assert codes(found) == ["not_found", "not_found"]
    assert site.stored(theirs).status is JobStatus.QUEUED
    reader = bearer(site, "ours", Scope.READ)
    for action in ("cancel", "retry"):
        answer = await send(site, action, [unknown], **reader)
        check_problem(answer, 403, "insufficient_scope", "submit")


async def test_what_was_done_is_told_where_the_store_goes_in_the_middle(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, queue = [str((await site.submit())["id"]) for _ in range(4)], site.scheduler.queue
    real, tried = queue.cancel, []

    def away(*_: Any) -> Any:
        raise StoreUnreachable("connection to db.internal refused")

    def cancel(job_id: str) -> Any:
        tried.append(job_id)
        if len(tried) < 3:
            return real(job_id)
        monkeypatch.setattr(queue, "explain_all", away)
        return away()

    monkeypatch.setattr(queue, "cancel", cancel)
    found = await outcomes(site, "cancel", ids)
    assert codes(found) == [None, None, "store_unreachable", "store_unreachable"]
    assert [one["job"]["status"] for one in found[:2]] == ["cancelled", "cancelled"]
    assert "db.internal" not in str(found)
    assert tried == ids[:3]


@pytest.mark.parametrize("action", ["cancel", "retry"])
@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([], "at least 1 item"),
        ([f"job_{number}" for number in range(101)], "at most 100 items"),
        (["job_1", "job_2", "job_1"], "ids must name each job once"),
        (["x" * 81], "at most 80 characters"),
        ("job_1", "list"),
        ([7], "string"),
    ],
)
async def test_bad_lists_are_refused(site: Site, action: str, ids: Any, words: str) -> None:
    answer = await send(site, action, ids)
    body = check_problem(answer, 422, "invalid_parameter", words)
    assert body["errors"][0]["field"].startswith("ids")


async def test_a_field_that_is_not_known_is_refused(site: Site) -> None:
    answer = await site.client.post("/v1/jobs/cancel", json={"ids": ["job_1"], "reason": "none"})
    check_problem(answer, 422, "invalid_parameter", "reason is not a known field")


async def test_an_error_that_nobody_foresaw_is_one_jobs_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first, broken, last = [str((await site.submit())["id"]) for _ in range(3)]
    cancel = site.scheduler.queue.cancel

    def cancel_unless_broken(job_id: str) -> Job:
        if job_id == broken:
            raise RuntimeError("secret details")
        return cancel(job_id)

    monkeypatch.setattr(site.scheduler.queue, "cancel", cancel_unless_broken)
    found = await outcomes(site, "cancel", [first, broken, last])
    assert codes(found) == [None, "internal_error", None]
    assert (found[1]["problem"]["status"], "secret" in found[1]["problem"]["detail"]) == (500, False)
    assert [site.stored(job_id).status for job_id in (first, last)] == [JobStatus.CANCELLED] * 2
