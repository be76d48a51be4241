"""Deliveries of webhooks: each is tried until its receiver has been told, or it is given up."""

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from scheduler.deliveries import DeliveryStatus, Due, Endpoint
from scheduler.errors import InvalidState, NotFound
from scheduler.fan_out import FanOut
from scheduler.policy import Policy
from scheduler.service import Scheduler
from scheduler.store import schema as s
from scheduler.webhooks import WAITS_SECONDS, Webhooks
from tests.support.databases import Clock
from tests.support.fleet import RegisteredGpu, open_scheduler, register_gpu
from tests.support.webhooks import LEASE, URL, cancelled, take, take_one, text

OTHER_URL = "https://hooks.example/b"
HOUR, DAY = 3600.0, 86_400.0
SENDERS, JOBS = 6, 24


@pytest.fixture
def policy() -> Policy:
    return Policy(gpu_memory_seconds=1000 * DAY)  # so that jobs are taken after the clock has moved on


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


@pytest.fixture
def webhooks(scheduler: Scheduler, policy: Policy, gpu: RegisteredGpu) -> Webhooks:  # no job without it
    """With waits that are exactly as the schedule has them."""
    return Webhooks(scheduler.database, policy, jitter=lambda: 0.5)


def fail(webhooks: Webhooks, due: Due, **more: Any) -> str | None:
    return webhooks.failed(due.delivery_id, 0.25, "the server answered 500", status=500, **more)


def endpoint(webhooks: Webhooks) -> Endpoint:
    (found,) = webhooks.endpoints()
    return found


def test_a_delivery_is_taken_once_and_then_over(scheduler: Scheduler, webhooks: Webhooks, clock: Clock) -> None:
    job_id = cancelled(scheduler)
    due = take_one(scheduler)
    assert (due.url, due.secrets) == (URL, webhooks.secrets("default"))
    assert due.secrets[0] not in repr(due)
    assert take(scheduler) == []
    clock.advance(0.5)
    webhooks.delivered(due.delivery_id, 0.5, 204)
    clock.advance(30 * DAY)
    assert take(scheduler) == []

    delivery, (only,) = webhooks.delivery(due.delivery_id)
    assert (delivery.job_id, delivery.type, delivery.status) == (job_id, "job.cancelled", DeliveryStatus.DELIVERED)
    assert (only.number, only.at, only.seconds, only.status, only.error) == (
        1,
        delivery.created_at,
        0.5,
        204,
        None,
    )


def test_whoever_dies_while_it_sends_only_delays(
    scheduler: Scheduler, database_url: str, webhooks: Webhooks, clock: Clock, data_dir: Path
) -> None:
    job_id = cancelled(scheduler)
    assert take_one(scheduler).delivery_id  # and nothing is heard of it again
    clock.advance(LEASE - 1)
    with open_scheduler(database_url, data_dir / "other") as other:
        assert take(other) == []
        clock.advance(1)
        again = take_one(other)
        other.webhooks.delivered(again.delivery_id, 0.1, 200)
        assert [one.job_id for one in other.webhooks.deliveries(status=DeliveryStatus.DELIVERED)] == [job_id]


def test_what_ends_while_nobody_sends_is_told_later(
    scheduler: Scheduler, database_url: str, webhooks: Webhooks, data_dir: Path
) -> None:
    assert take(scheduler) == []
    job_id = cancelled(scheduler)
    with open_scheduler(database_url, data_dir / "other") as other:
        due = take_one(other)
        assert json.loads(due.payload)[1] == job_id


def test_retries_follow_the_schedule_until_it_is_given_up(
    scheduler: Scheduler, webhooks: Webhooks, clock: Clock
) -> None:
    cancelled(scheduler)
    for wait in WAITS_SECONDS:
        due = take_one(scheduler)
        assert fail(webhooks, due) is None
        clock.advance(wait - 0.01)
        assert take(scheduler) == []
        clock.advance(0.02)
    due = take_one(scheduler)
    assert fail(webhooks, due) is None
    clock.advance(30 * DAY)
    assert take(scheduler) == []

    delivery, tries = webhooks.delivery(due.delivery_id)
    assert (delivery.status, delivery.tries) == (DeliveryStatus.FAILED, 10)
    assert [one.number for one in tries] == list(range(1, 11))
    assert {(one.status, one.error) for one in tries} == {(500, "the server answered 500")}
    assert sum(WAITS_SECONDS) > 72 * HOUR


def test_a_receiver_that_fails_twice_is_told_at_the_third_try(
    scheduler: Scheduler, webhooks: Webhooks, clock: Clock
) -> None:
    cancelled(scheduler)
    first = take_one(scheduler)
    fail(webhooks, first)
    assert endpoint(webhooks).failing_since == clock.seconds
    clock.advance(5)
    second = take_one(scheduler)
    fail(webhooks, second)
    clock.advance(300)
    third = take_one(scheduler)
    assert first == second == third, "the same id and the same bytes"
    webhooks.delivered(third.delivery_id, 0.1, 200)
    assert endpoint(webhooks).failing_since is None


@pytest.mark.usefixtures("gpu")
def test_waits_are_spread(scheduler: Scheduler, policy: Policy, clock: Clock) -> None:
    chance = random.Random(7)  # noqa: S311  not a secret
    webhooks = Webhooks(scheduler.database, policy, jitter=chance.random)
    for index in range(8):
        cancelled(scheduler, url=f"{URL}/{index}")
    for due in take(scheduler):
        fail(webhooks, due)
    waits = [(one.next_at or 0.0) - clock.seconds for one in webhooks.deliveries()]
    assert len(set(waits)) == 8
    assert all(4.0 <= wait <= 6.0 for wait in waits)


@pytest.mark.parametrize(("asked", "wait"), [(1.0, 5.0), (90.0, 90.0), (1e9, DAY)])
def test_the_receiver_may_ask_for_a_longer_wait(
    scheduler: Scheduler, webhooks: Webhooks, clock: Clock, asked: float, wait: float
) -> None:
    cancelled(scheduler)
    due = take_one(scheduler)
    fail(webhooks, due, retry_after_seconds=asked)
    assert webhooks.delivery(due.delivery_id)[0].next_at == pytest.approx(clock.seconds + wait)


def test_of_each_endpoint_one_at_a_time(scheduler: Scheduler, webhooks: Webhooks) -> None:
    for _ in range(3):
        cancelled(scheduler)
    cancelled(scheduler, OTHER_URL)
    scheduler.fan_out.tell(text)
    slow = webhooks.claim_due(2, LEASE)
    assert [due.url for due in slow] == [URL]
    (other,) = webhooks.claim_due(2, LEASE, busy={slow[0].endpoint_id: "default"})
    assert other.url == OTHER_URL, "whatever waits for the slow one"
    assert webhooks.claim_due(2, LEASE, busy=dict.fromkeys([slow[0].endpoint_id, other.endpoint_id], "default")) == []


def test_of_each_tenant_a_few_at_a_time(scheduler: Scheduler, webhooks: Webhooks) -> None:
    for index in range(12):
        cancelled(scheduler, f"{URL}/{index}", tenant="mallory")
    cancelled(scheduler, tenant="alice")
    scheduler.fan_out.tell(text)
    busy: dict[str, str] = {}
    taken: list[str] = []
    while due := webhooks.claim_due(8, LEASE, busy, each=3):
        taken += [one.tenant for one in due]
        busy |= {one.endpoint_id: one.tenant for one in due}
    assert sorted(taken) == ["alice", "mallory", "mallory", "mallory"]
    busy.popitem()
    busy.pop(next(endpoint for endpoint, tenant in busy.items() if tenant == "mallory"))
    more = webhooks.claim_due(8, LEASE, busy, each=3)
    assert [one.tenant for one in more] == ["mallory"] * (3 - list(busy.values()).count("mallory"))


def test_endpoints_that_fail_get_what_is_left(scheduler: Scheduler, webhooks: Webhooks, clock: Clock) -> None:
    for index in range(3):
        cancelled(scheduler, f"{URL}/{index}", tenant="mallory")
    for due in take(scheduler):
        fail(webhooks, due)
    clock.advance(HOUR)
    cancelled(scheduler, tenant="alice")
    scheduler.fan_out.tell(text)
    first = webhooks.claim_due(2, LEASE)
    assert [one.tenant for one in first] == ["alice"], "though the others have been due for longer"
    assert [one.tenant for one in webhooks.claim_due(2, LEASE)] == ["mallory", "mallory"]


def test_front_ends_that_do_all_at_once_tell_everything_once(
    scheduler: Scheduler, policy: Policy, webhooks: Webhooks
) -> None:
    jobs = [cancelled(scheduler, url=f"{URL}/{index % 5}") for index in range(JOBS)]

    def front_end(_: int) -> list[str]:
        fan_out, mine = FanOut(scheduler.database, scheduler.events), Webhooks(scheduler.database, policy)
        told, deadline = [], time.monotonic() + 60
        while time.monotonic() < deadline:
            fan_out.tell(text)
            taken = mine.claim_due(4, LEASE)
            for due in taken:
                mine.delivered(due.delivery_id, 0.0, 200)
                told.append(json.loads(due.payload)[1])
            if not taken and len(mine.deliveries(status=DeliveryStatus.DELIVERED)) == JOBS:
                break
        return told

    with ThreadPoolExecutor(SENDERS) as threads:
        told = [job_id for ids in threads.map(front_end, range(SENDERS)) for job_id in ids]
    assert sorted(told) == sorted(jobs)


def test_an_endpoint_that_is_gone_is_disabled_and_waits(scheduler: Scheduler, webhooks: Webhooks, clock: Clock) -> None:
    first, second = cancelled(scheduler), cancelled(scheduler)
    reason = fail(webhooks, take_one(scheduler), gone=True)
    disabled = endpoint(webhooks)
    assert (disabled.disabled_at, disabled.disabled_reason) == (clock.seconds, reason)
    third = cancelled(scheduler)
    clock.advance(DAY)
    assert take(scheduler) == []
    waiting = webhooks.deliveries(status=DeliveryStatus.PENDING)
    assert {(one.job_id, one.next_at) for one in waiting} == {(first, None), (second, None), (third, None)}
    with pytest.raises(InvalidState, match="enable it first"):
        webhooks.redeliver(waiting[0].id, None, "ops")

    assert webhooks.enable(disabled.id, None, "key_1 (ops)").disabled_at is None
    webhooks.enable(disabled.id, None, "key_1 (ops)")
    told = set()
    while due := take(scheduler):
        told |= {json.loads(one.payload)[1] for one in due}
        for one in due:
            webhooks.delivered(one.delivery_id, 0.0, 200)
    assert told == {first, second, third}
    log = [(one.type, one.actor, dict(one.data)) for one in scheduler.events.read(subject=disabled.id)]
    assert log == [
        ("webhook.disabled", None, {"url": URL, "reason": reason}),
        ("webhook.enabled", "key_1 (ops)", {"url": URL}),
    ]


def test_an_endpoint_that_fails_for_days_is_disabled(scheduler: Scheduler, webhooks: Webhooks, clock: Clock) -> None:
    reason, days = None, 0
    while reason is None:
        assert days < 12
        cancelled(scheduler)
        for due in take(scheduler):
            reason = reason or fail(webhooks, due)
        clock.advance(DAY / 2)
        days += 1
    assert days > 10
    assert "nothing could be delivered since" in reason
    assert endpoint(webhooks).disabled_reason == reason


def test_an_old_failure_does_not_disable_an_endpoint_at_its_next_one(
    scheduler: Scheduler, webhooks: Webhooks, clock: Clock
) -> None:
    cancelled(scheduler)
    for wait in (*WAITS_SECONDS, 60 * DAY):
        assert fail(webhooks, take_one(scheduler)) is None
        clock.advance(wait + 1)
    cancelled(scheduler)
    assert fail(webhooks, take_one(scheduler)) is None
    assert endpoint(webhooks).disabled_at is None


def test_a_failure_that_comes_after_a_success_changes_nothing(scheduler: Scheduler, webhooks: Webhooks) -> None:
    cancelled(scheduler)
    due = take_one(scheduler)
    webhooks.delivered(due.delivery_id, 0.1, 200)
    fail(webhooks, due)
    delivery, tries = webhooks.delivery(due.delivery_id)
    assert (delivery.status, delivery.next_at, len(tries)) == (DeliveryStatus.DELIVERED, None, 2)


@pytest.mark.parametrize("end", ["delivered", "given up", "pending"])
def test_redelivery_on_request(scheduler: Scheduler, webhooks: Webhooks, clock: Clock, end: str) -> None:
    cancelled(scheduler)
    due = take_one(scheduler)
    if end == "delivered":
        webhooks.delivered(due.delivery_id, 0.1, 200)
    else:
        fail(webhooks, due)
    if end == "given up":
        for wait in WAITS_SECONDS:
            clock.advance(wait)
            fail(webhooks, take_one(scheduler))
    assert take(scheduler) == []

    assert webhooks.redeliver(due.delivery_id, "default", "key_1 (ops)").status is DeliveryStatus.PENDING
    (told,) = scheduler.events.read(subject=due.endpoint_id)
    assert (told.type, told.actor, told.data) == (
        "webhook.redelivered",
        "key_1 (ops)",
        {"delivery": due.delivery_id, "url": URL},
    )
    assert take(scheduler) == [due], "the same id and the same bytes"
    fail(webhooks, due)
    after = webhooks.delivery(due.delivery_id)[0]
    assert after.status is (DeliveryStatus.FAILED if end == "given up" else DeliveryStatus.PENDING)


def test_each_tenant_sees_its_own(scheduler: Scheduler, webhooks: Webhooks) -> None:
    ours, theirs = cancelled(scheduler, tenant="acme"), cancelled(scheduler, tenant="zeta")
    scheduler.fan_out.tell(text)
    (delivery,) = webhooks.deliveries("acme")
    (mine,) = webhooks.endpoints("acme")
    assert (delivery.job_id, mine.tenant) == (ours, "acme")
    assert {one.job_id for one in webhooks.deliveries()} == {ours, theirs}
    assert webhooks.deliveries("acme", job_id=theirs) == []
    for refused in (
        lambda: webhooks.delivery(delivery.id, "zeta"),
        lambda: webhooks.redeliver(delivery.id, "zeta", "zeta"),
        lambda: webhooks.enable(mine.id, "zeta", "zeta"),
        lambda: webhooks.delivery("msg_unknown"),
        lambda: webhooks.enable("we_unknown", None, "ops"),
    ):
        with pytest.raises(NotFound):
            refused()


def test_lists_go_from_page_to_page(scheduler: Scheduler, webhooks: Webhooks) -> None:
    jobs = [cancelled(scheduler, url=f"{URL}/{index}") for index in range(5)]
    scheduler.fan_out.tell(text)
    seen, cursor = list[str](), None
    while page := webhooks.deliveries(before_id=cursor, limit=2):
        seen, cursor = seen + [one.job_id for one in page], page[-1].id
    assert sorted(seen) == sorted(jobs)
    first, second = webhooks.endpoints(limit=2)
    assert webhooks.endpoints(before_id=first.id, limit=1) == [second]


def test_old_deliveries_are_pruned_but_not_those_under_way(
    scheduler: Scheduler, webhooks: Webhooks, clock: Clock, count: Callable[[], dict[str, int]]
) -> None:
    cancelled(scheduler)
    webhooks.delivered(take_one(scheduler).delivery_id, 0.1, 200)
    cancelled(scheduler, OTHER_URL)
    take_one(scheduler)
    clock.advance(91 * DAY)
    cancelled(scheduler)
    scheduler.fan_out.tell(text)
    scheduler.pruner.run_once()
    assert count() == {"webhook_deliveries": 2, "webhook_attempts": 0, "webhook_endpoints": 2}
    for _ in range(2):
        for due in take(scheduler):
            webhooks.delivered(due.delivery_id, 0.1, 200)
    clock.advance(91 * DAY)
    scheduler.pruner.run_once()
    assert count() == {"webhook_deliveries": 0, "webhook_attempts": 0, "webhook_endpoints": 0}


@pytest.fixture
def count(scheduler: Scheduler) -> Callable[[], dict[str, int]]:
    def counted() -> dict[str, int]:
        tables = (s.webhook_deliveries, s.webhook_attempts, s.webhook_endpoints)
        with scheduler.database.read() as conn:
            return {one.name: conn.execute(select(func.count()).select_from(one)).scalar_one() for one in tables}

    return counted
