"""Tenants: limits of their own, those of the settings, and jobs whose gate follows them."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Event
from typing import Any

import pytest
from sqlalchemy import text

from scheduler import tenants
from scheduler.errors import InvalidParameter
from scheduler.keys import Scope
from scheduler.limits import NO_LIMITS, TenantLimits
from scheduler.policy import Policy
from scheduler.service import Scheduler
from scheduler.store import submission
from scheduler.tenants import Tenant
from tests.support.databases import Clock
from tests.support.fleet import new_job, register_gpu

ALL = TenantLimits(2.0, 100, 2, 1.5, 60, 600)


def gates(scheduler: Scheduler) -> dict[str, str]:
    return {job.id: job.gate for job in scheduler.queue.list_jobs(limit=1000)}


def submit(scheduler: Scheduler, tenant: str) -> str:
    return scheduler.queue.submit(new_job(tenant=tenant)).job.id


def test_a_tenant_that_nobody_has_heard_of_has_no_limits(scheduler: Scheduler) -> None:
    assert scheduler.tenants.get("acme") == Tenant("acme", NO_LIMITS, NO_LIMITS, 0, 0)
    assert [one.id for one in scheduler.tenants.list()] == ["default"]


def test_the_operator_is_no_tenant(scheduler: Scheduler) -> None:
    scheduler.webhooks.rotate_secret(tenants.OPERATOR, "cli")
    assert [one.id for one in scheduler.tenants.list()] == ["default"]


def test_limits_are_kept_replaced_and_taken_away(scheduler: Scheduler) -> None:
    assert scheduler.tenants.in_force("acme") == NO_LIMITS
    assert scheduler.tenants.set("acme", ALL, "me").limits == ALL
    assert scheduler.tenants.get("acme").in_force == scheduler.tenants.in_force("acme") == ALL
    scheduler.tenants.set("acme", TenantLimits(max_queued=0), "me")
    assert scheduler.tenants.get("acme").limits == TenantLimits(max_queued=0)
    scheduler.tenants.set("acme", NO_LIMITS, "me")
    assert scheduler.tenants.in_force("acme") == NO_LIMITS


def test_a_change_is_in_the_log(scheduler: Scheduler, clock: Clock) -> None:
    scheduler.tenants.set("acme", ALL, "me")
    (event,) = scheduler.events.read()
    assert (event.type, event.subject, event.tenant, event.actor) == ("tenant.changed", "acme", "acme", "me")
    assert (event.at, event.data) == (clock.seconds, asdict(ALL))


def test_those_with_limits_or_keys_are_listed_with_their_jobs(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    for tenant in ("acme", "acme", "acme", "default"):
        submit(scheduler, tenant)
    gpu.must_claim()
    scheduler.tenants.set("limited", ALL, "me")
    scheduler.keys.create("phone", tenant="acme", scopes=[Scope.READ], actor="me")

    found = {one.id: (one.queued, one.running) for one in scheduler.tenants.list()}
    assert list(found) == ["acme", "default", "limited"]
    assert found == {"acme": (2, 1), "default": (1, 0), "limited": (0, 0)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("share", 0.0), ("share", float("nan")), ("share", float("inf")), ("max_queued", -1), ("max_running", -1),
        ("max_priority", 0.0), ("max_priority", 101.0), ("submits_per_minute", 0), ("requests_per_minute", 1_000_001),
    ],
)  # fmt: skip
def test_a_limit_has_a_range(scheduler: Scheduler, name: str, value: Any) -> None:
    with pytest.raises(InvalidParameter, match=f"{name} must be from") as refused:
        scheduler.tenants.set("acme", TenantLimits(**{name: value}), "me")
    assert refused.value.field == name
    assert [one.id for one in scheduler.tenants.list()] == ["default"]


@pytest.mark.parametrize("tenant", ["", "Acme", "a b", "a/b", "_a", 64 * "a", "é"])
def test_an_id_has_a_form(scheduler: Scheduler, tenant: str) -> None:
    with pytest.raises(InvalidParameter, match="tenant must be"):
        scheduler.tenants.set(tenant, NO_LIMITS, "me")


class TestDefaults:
    """Limits that the settings give to all who have none of their own."""

    @pytest.fixture
    def policy(self) -> Policy:
        return Policy(tenant_limits=TenantLimits(max_queued=5, max_running=1, submits_per_minute=60))

    def test_its_own_come_first(self, scheduler: Scheduler) -> None:
        own = TenantLimits(max_queued=100, max_priority=2.0)
        scheduler.tenants.set("acme", own, "me")
        in_force = TenantLimits(max_queued=100, max_running=1, max_priority=2.0, submits_per_minute=60)
        assert scheduler.tenants.get("acme") == Tenant("acme", own, in_force, 0, 0)
        assert scheduler.tenants.in_force("acme") == in_force
        assert scheduler.tenants.in_force("other").max_queued == 5

    def test_the_gate_of_a_job_goes_by_them(self, scheduler: Scheduler) -> None:
        register_gpu(scheduler)
        ours = submit(scheduler, "acme")
        scheduler.tenants.set("acme", TenantLimits(max_running=7), "me")
        assert gates(scheduler) == {ours: "acme"}
        scheduler.tenants.set("acme", NO_LIMITS, "me")
        assert gates(scheduler) == {ours: "acme"}, "the settings' limit holds"


def test_the_gates_of_unfinished_jobs_follow_the_limit(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants, "_GATED_AT_ONCE", 2)
    gpu = register_gpu(scheduler)
    ended, *ours = (submit(scheduler, "acme") for _ in range(6))
    other = submit(scheduler, "other")
    scheduler.queue.cancel(ended)
    gpu.must_claim()
    assert set(gates(scheduler).values()) == {""}

    scheduler.tenants.set("acme", TenantLimits(max_running=1), "me")
    assert gates(scheduler) == dict.fromkeys(ours, "acme") | {ended: "", other: ""}
    later = submit(scheduler, "acme")
    assert gates(scheduler)[later] == "acme"

    scheduler.tenants.set("acme", TenantLimits(max_queued=100), "me")
    assert set(gates(scheduler).values()) == {""}


def test_a_job_that_is_being_submitted_meanwhile_gets_its_gate(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """It was judged by the limits of before, when there was not even a row to lock."""
    register_gpu(scheduler)
    insert, reached, go_on = submission.insert, Event(), Event()

    def held(*arguments: Any) -> None:
        reached.set()
        assert go_on.wait(30)
        insert(*arguments)

    monkeypatch.setattr(submission, "insert", held)
    with ThreadPoolExecutor(2) as threads:
        submitted = threads.submit(submit, scheduler, "acme")
        assert reached.wait(30)
        changed = threads.submit(scheduler.tenants.set, "acme", TenantLimits(max_running=1), "me")
        if engine == "postgresql":
            until_somebody_waits(scheduler)
        go_on.set()
        changed.result(30)
        assert gates(scheduler) == {submitted.result(30): "acme"}


def until_somebody_waits(scheduler: Scheduler) -> None:
    deadline = time.monotonic() + 30
    while True:
        with scheduler.database.read() as conn:
            if conn.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one():
                return
        assert time.monotonic() < deadline
