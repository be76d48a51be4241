from typing import Any

import pytest

from scheduler.keys import Scope
from scheduler.tenants import TenantLimits
from tests.support.http import Site, check_problem

NO_LIMITS = {
    "share": None, "max_queued": None, "max_running": None, "max_priority": None, "submits_per_minute": None,
    "requests_per_minute": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a key that was just made open the door."""
    monkeypatch.setattr("app.door.REMEMBER_SECONDS", 0.0)


async def account(site: Site, secret: str | None = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    answer = await site.client.get("/v1/account", headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_while_there_are_no_keys_everyone_is_the_default_tenant(site: Site) -> None:
    assert await account(site) == {
        "object": "account",
        "tenant": "default",
        "key": None,
        "limits": NO_LIMITS,
        "usage": {"queued": 0, "running": 0},
    }


async def test_usage_counts_the_tenants_jobs_that_have_not_ended(site: Site) -> None:
    await site.succeeded()
    for _ in range(3):
        await site.submit()
    site.gpu.must_claim()
    assert (await account(site))["usage"] == {"queued": 2, "running": 1}


async def test_limits_are_those_in_force(opened: Any) -> None:
    async with opened(tenant_max_queued=5, tenant_max_running=3) as site:
        site.scheduler.tenants.set("default", TenantLimits(share=2.0, max_running=1), "test")
        limits = (await account(site))["limits"]
    assert limits == NO_LIMITS | {"share": 2.0, "max_queued": 5, "max_running": 1}


async def test_a_key_is_shown_to_who_has_it(site: Site) -> None:
    await site.submit()  # the default tenant's
    key, secret = site.scheduler.keys.create("night shift", tenant="film", scopes={Scope.READ}, actor="test")
    site.scheduler.keys.create("another", tenant="film", scopes={Scope.SUBMIT}, actor="test")
    shown = await account(site, secret)
    assert (shown["tenant"], shown["usage"]) == ("film", {"queued": 0, "running": 0})
    assert shown["key"] == {"id": key.id, "name": "night shift", "scopes": ["read"]}
    assert secret not in str(shown)


async def test_without_a_good_key_there_is_no_account(site: Site) -> None:
    _, secret = site.scheduler.keys.create("k", scopes={Scope.READ}, actor="test")
    await account(site, secret)
    for headers in ({}, {"Authorization": f"Bearer {secret[:-1]}!"}):
        check_problem(await site.client.get("/v1/account", headers=headers), 401, "unauthorized")
