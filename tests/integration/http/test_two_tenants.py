"""One tenant's jobs do not exist for another, in any call; what the calls are, the OpenAPI document says."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from scheduler.keys import Scope
from tests.support.http import Site, picture

UNKNOWN = f"job_{'0' * 26}"
USUAL = frozenset({Scope.SUBMIT, Scope.READ})
PUBLIC = {"/", "/healthz", "/readyz", "/openapi.json"}
NAMES_A_JOB = re.compile(r"/v1/(?:admin/)?(?:jobs|videos)/\{(\w+)\}")
# What a call needs so that nothing but the job can be wrong with it.
BODIES: dict[str, Any] = {"patch_job": {"priority": 2.0}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


def key(site: Site, tenant: str, scopes: frozenset[Scope] = USUAL) -> Mapping[str, str]:
    _, secret = site.scheduler.keys.create(tenant, tenant=tenant, scopes=scopes, actor="test")
    return {"Authorization": f"Bearer {secret}"}


async def operations(site: Site) -> list[tuple[str, str, str]]:
    """Method, path and operation id of every call."""
    document = (await site.client.get("/openapi.json")).json()
    return [
        (method.upper(), path, operation["operationId"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


async def call(
    site: Site, method: str, path: str, operation: str, headers: Mapping[str, str] | None, **values: str
) -> httpx.Response:
    filled = re.sub(r"\{(\w+)\}", lambda name: values.get(name[1], "GPU-0"), path)
    return await site.client.request(method, filled, headers=headers, json=BODIES.get(operation))


async def test_anothers_job_is_404_in_every_call_in_the_words_for_an_unknown_one(site: Site) -> None:
    mine, theirs = key(site, "acme"), key(site, "umbrella")
    jobs = {"queued": (await site.post(headers=mine)).json()["id"]}
    done = (await site.post(headers=mine)).json()["id"]
    await site.client.post(f"/v1/jobs/{jobs['queued']}/cancel", headers=mine)
    site.finish(site.gpu.must_claim())
    jobs |= {"succeeded": done}
    seen = 0
    for method, path, operation in await operations(site):
        match = NAMES_A_JOB.match(path)
        if match is None:
            continue
        seen += 1
        unknown = await call(site, method, path, operation, theirs, **{match[1]: UNKNOWN})
        assert unknown.status_code == 404, (operation, unknown.text)
        for state, job_id in jobs.items():
            answer = await call(site, method, path, operation, theirs, **{match[1]: job_id})
            assert answer.status_code == 404, (operation, state, answer.text)
            assert _but_for(answer, job_id) == _but_for(unknown, UNKNOWN), (operation, state)
    assert seen >= 13
    assert [site.stored(job_id).status for job_id in jobs.values()] == ["cancelled", "succeeded"], "nothing was done"


def _but_for(answer: httpx.Response, job_id: str) -> str:
    """The answer without what is different in each: the id that was asked for, and the request's."""
    return answer.text.replace(job_id, "").replace(answer.headers["x-request-id"], "")


async def test_lists_show_a_tenant_its_own(site: Site) -> None:
    mine, theirs = key(site, "acme"), key(site, "umbrella")
    hooked = {"webhook_url": "https://hooks.example/a", "webhook_events": '["job.cancelled"]'}
    job_id = (await site.post(headers=mine, **hooked)).json()["id"]
    await site.client.post(f"/v1/jobs/{job_id}/cancel", headers=mine)
    site.scheduler.fan_out.tell(lambda told: "{}")
    for path in ("/v1/jobs", "/v1/videos", "/v1/webhooks", "/v1/webhooks/deliveries"):
        own = (await site.client.get(path, headers=mine)).json()["data"]
        assert len(own) == 1, path
        assert (await site.client.get(path, headers=theirs)).json()["data"] == [], path
        if path.startswith("/v1/webhooks"):
            for method, suffix in (("GET", ""), ("POST", "/redeliver"), ("POST", "/enable")):
                asked = await site.client.request(method, f"{path}/{own[0]['id']}{suffix}", headers=theirs)
                assert asked.status_code in (404, 405), (path, suffix, asked.text)
    cursor = await site.client.get("/v1/jobs", params={"cursor": UNKNOWN.replace("0", "z")}, headers=theirs)
    assert cursor.json()["data"] == []
    asked = await site.client.get("/v1/jobs", params={"tenant": "acme"}, headers=theirs)
    assert (asked.status_code, asked.json()["code"]) == (403, "insufficient_scope")


def _too_small(method: str, path: str) -> Iterator[frozenset[Scope]]:
    """Scopes that do not suffice for a call."""
    if path.startswith("/v1/admin/"):
        yield from (USUAL, frozenset({Scope.READ}), frozenset({Scope.SUBMIT}))
    elif method in ("GET", "HEAD") or path == "/v1/estimates":
        yield frozenset({Scope.SUBMIT if "secret" not in path else Scope.READ})
    else:
        yield frozenset({Scope.READ})


async def test_every_call_needs_a_key_with_its_scope(site: Site) -> None:
    revoked = key(site, "acme")
    (made,) = site.scheduler.keys.list()
    site.scheduler.keys.revoke(made.id, "test")
    keys: dict[frozenset[Scope], Mapping[str, str]] = {}
    for method, path, operation in await operations(site):
        if path in PUBLIC:
            continue
        for headers in (None, revoked, {"Authorization": "Bearer rq_" + "a" * 43}):
            answer = await call(site, method, path, operation, headers, job_id=UNKNOWN)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), operation
        for scopes in _too_small(method, path):
            headers = keys.setdefault(scopes, key(site, "acme", scopes)) if scopes not in keys else keys[scopes]
            answer = await call(site, method, path, operation, headers, job_id=UNKNOWN)
            expected = (404, "not_found") if path.startswith("/v1/admin/jobs/") else (403, "insufficient_scope")
            assert (answer.status_code, answer.json()["code"]) == expected, (operation, scopes)


async def test_images_do_not_cross_either(site: Site) -> None:
    """A retry copies an image: only the caller's own."""
    mine, theirs = key(site, "acme"), key(site, "umbrella")
    job_id = (await site.post(picture(), headers=mine)).json()["id"]
    await site.client.post(f"/v1/jobs/{job_id}/cancel", headers=mine)
    assert (await site.client.post(f"/v1/jobs/{job_id}/retry", headers=theirs)).status_code == 404
    assert (await site.client.post(f"/v1/jobs/{job_id}/retry", headers=mine)).status_code == 202
