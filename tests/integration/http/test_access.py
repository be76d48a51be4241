"""Keys over HTTP: who gets in, what a tenant may do, and how often."""

from collections.abc import Mapping

import httpx
import pytest

from scheduler.keys import Scope
from scheduler.limits import TenantLimits
from tests.support.http import Site, check_problem

ALL = frozenset(Scope)
USUAL = frozenset({Scope.SUBMIT, Scope.READ})


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that the front end asks about callers be a second old."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


def key(site: Site, tenant: str = "acme", scopes: frozenset[Scope] = USUAL) -> Mapping[str, str]:
    """Make a key; returns the header that it is used with."""
    _, secret = site.scheduler.keys.create(f"{tenant}-key", tenant=tenant, scopes=scopes, actor="test")
    return {"Authorization": f"Bearer {secret}"}


async def test_without_keys_everyone_here_may_do_everything(site: Site) -> None:
    job = await site.submit()
    assert job["tenant"] == "default"
    assert (await site.client.get("/v1/admin/gpus")).status_code == 200


async def test_with_the_first_key_every_call_needs_one(site: Site) -> None:
    mine = key(site)
    for path in ("/v1/jobs", "/v1/models", "/v1/admin/gpus", "/v1/nothing"):
        answer = await site.client.get(path)
        check_problem(answer, 401, "unauthorized", "API key")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for path in ("/", "/healthz", "/readyz", "/openapi.json"):
        assert (await site.client.get(path)).status_code == 200
    assert (await site.client.get("/v1/jobs", headers=mine)).status_code == 200


async def test_a_revoked_key_opens_nothing_and_the_last_one_leaves_nothing_open(site: Site) -> None:
    mine = key(site)
    (made,) = site.scheduler.keys.list()
    site.scheduler.keys.revoke(made.id, "test")
    check_problem(await site.client.get("/v1/jobs", headers=mine), 401, "unauthorized")
    check_problem(await site.client.get("/v1/jobs"), 401, "unauthorized")


async def test_jobs_belong_to_the_tenant_of_the_key(site: Site) -> None:
    mine, theirs = key(site, "acme"), key(site, "umbrella")
    job = (await site.post(headers=mine)).json()
    assert job["tenant"] == "acme"
    assert (await site.client.get(f"/v1/jobs/{job['id']}", headers=mine)).status_code == 200
    unknown = await site.client.get("/v1/jobs/job_00000000000000000000000000", headers=theirs)
    hidden = await site.client.get(f"/v1/jobs/{job['id']}", headers=theirs)
    check_problem(hidden, 404, "not_found")
    assert hidden.json()["detail"] == unknown.json()["detail"].replace("job_" + "0" * 26, job["id"])
    assert (await site.client.get("/v1/jobs", headers=theirs)).json()["data"] == []
    operator = key(site, "acme", ALL)
    assert (await site.client.get(f"/v1/jobs/{job['id']}", headers=operator)).status_code == 200


async def test_the_same_idempotency_key_of_two_tenants_makes_two_jobs(site: Site) -> None:
    mine, theirs = key(site, "acme"), key(site, "umbrella")
    first, second = [await site.post(headers={**one, "Idempotency-Key": "k"}) for one in (mine, theirs)]
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] != second.json()["id"]


async def test_a_key_that_may_read_may_not_submit_and_is_told(site: Site) -> None:
    reader = key(site, scopes=frozenset({Scope.READ}))
    assert (await site.client.get("/v1/jobs", headers=reader)).status_code == 200
    check_problem(await site.post(headers=reader), 403, "insufficient_scope", "submit", "read")
    check_problem(await site.client.get("/v1/admin/gpus", headers=reader), 403, "insufficient_scope", "admin")
    assert site.leftovers() == []


async def test_what_an_operator_does_is_in_the_log_by_the_keys_name(site: Site) -> None:
    operator = key(site, "ops", ALL)
    answer = await site.client.post("/v1/admin/gpus/GPU-0/drain", json={"reason": "new fans"}, headers=operator)
    assert answer.status_code == 200
    events = (await site.client.get("/v1/admin/events", headers=operator)).json()["data"]
    actors = {event["type"]: event["actor"] for event in events}
    assert actors["key.created"] == "test"
    (drained,) = [actor for kind, actor in actors.items() if kind.startswith("gpu.drain")]
    assert drained.startswith("key_")
    assert drained.endswith("(ops-key)")


async def test_a_tenants_queue_and_priority_have_limits(site: Site) -> None:
    mine, theirs = key(site, "acme"), key(site, "umbrella")
    site.scheduler.tenants.set("acme", TenantLimits(max_queued=1, max_priority=2.0), "test")
    answer = await site.post(headers=mine, priority="3")
    assert answer.status_code == 422
    assert "priority" in answer.json()["detail"]
    assert "2" in answer.json()["detail"]
    assert (await site.post(headers=mine, priority="2")).status_code == 202
    full = await site.post(headers=mine)
    assert check_problem(full, 429, "tenant_queue_full", "1 job is waiting")["limit"] == 1
    assert int(full.headers["retry-after"]) >= 1
    assert (await site.post(headers=theirs)).status_code == 202


async def test_requests_and_submits_are_counted_apart_and_told(site: Site) -> None:
    mine, theirs = key(site, "acme"), key(site, "umbrella")
    site.scheduler.tenants.set("acme", TenantLimits(submits_per_minute=2, requests_per_minute=5), "test")
    answers: list[httpx.Response] = [await site.post(headers=mine) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[0].headers["ratelimit-policy"] == '"request";q=5;w=60, "submit";q=2;w=60'
    assert answers[0].headers["ratelimit"].startswith('"request";r=4;t=')
    problem = check_problem(answers[2], 429, "rate_limited", "2 submits a minute")
    assert problem["limit"] == 2
    after = int(answers[2].headers["retry-after"])
    assert 1 <= after <= 30
    # While none is left it is when there is one, not when there are all.
    assert answers[2].headers["ratelimit"].endswith(f'"submit";r=0;t={after}')
    assert int(answers[1].headers["ratelimit"].rpartition('"submit";r=0;t=')[2]) in (after, after + 1)
    looks = [await site.client.get("/v1/jobs", headers=mine) for _ in range(3)]
    assert [look.status_code for look in looks] == [200, 200, 429]
    check_problem(looks[2], 429, "rate_limited", "5 requests a minute")
    free = await site.client.get("/v1/jobs", headers=theirs)
    assert free.status_code == 200
    assert "ratelimit" not in free.headers


async def test_with_keys_any_host_name_will_do_and_without_only_this_machines(site: Site) -> None:
    elsewhere = {"Host": "reelq.example"}
    check_problem(await site.client.get("/v1/jobs", headers=elsewhere), 421, "host_not_allowed")
    mine = key(site)
    assert (await site.client.get("/v1/jobs", headers={**mine, **elsewhere})).status_code == 200
    check_problem(await site.client.get("/v1/jobs", headers={**mine, "Host": "a b"}), 400, "invalid_host")
