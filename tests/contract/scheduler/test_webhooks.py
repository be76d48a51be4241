"""The webhooks' outbox: each event is written down once for its endpoint, and tried until it is told or given up."""

import json
import random
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy import text as sql

from scheduler.errors import InvalidState, NotFound
from scheduler.policy import Policy
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from scheduler.store import schema as s
from scheduler.store import webhooks as store
from scheduler.webhooks import DEFAULT_EVENTS, WAITS_SECONDS, DeliveryStatus, Due, Endpoint, Told, Webhooks
from tests.support.databases import Clock
from tests.support.fleet import ERROR, MEASURED, RESULT, RegisteredGpu, new_job, open_scheduler, register_gpu

URL, OTHER_URL = "https://hooks.example/a", "https://hooks.example/b"
HOUR, DAY, LEASE = 3600.0, 86_400.0, 60.0
SENDERS, JOBS = 6, 24


@pytest.fixture
def policy() -> Policy:
    return Policy(gpu_memory_seconds=1000 * DAY)  # so that jobs are taken after the clock has moved on


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


@pytest.fixture
def webhooks(scheduler: Scheduler, policy: Policy, gpu: RegisteredGpu) -> Webhooks:  # no job without it
    """The outbox with waits that are exactly as the schedule has them."""
    return Webhooks(scheduler.database, policy, scheduler.events, jitter=lambda: 0.5)


def text(told: Told) -> str:
    """What the tests' endpoints are told: all there is."""
    error = told.error and told.error.code
    return json.dumps([told.type, told.job_id, told.status, told.model, dict(told.metadata), error, told.has_video])


def submit(scheduler: Scheduler, url: str | None = URL, events: Any = DEFAULT_EVENTS, **changes: Any) -> str:
    return scheduler.queue.submit(new_job(webhook_url=url, webhook_events=events, **changes)).job.id


def cancelled(scheduler: Scheduler, url: str | None = URL, **changes: Any) -> str:
    """Return the id of a job that was submitted and cancelled."""
    job_id = submit(scheduler, url, **changes)
    scheduler.queue.cancel(job_id)
    return job_id


def take(webhooks: Webhooks) -> list[Due]:
    webhooks.fan_out(text)
    return webhooks.claim_due(100, LEASE)


def take_one(webhooks: Webhooks) -> Due:
    (due,) = take(webhooks)
    return due


def fail(webhooks: Webhooks, due: Due, **more: Any) -> str | None:
    return webhooks.failed(due.delivery_id, 0.25, "the server answered 500", status=500, **more)


def endpoint(webhooks: Webhooks) -> Endpoint:
    (found,) = webhooks.endpoints()
    return found


def test_the_ends_of_a_job_are_told_by_default(scheduler: Scheduler, gpu: RegisteredGpu, webhooks: Webhooks) -> None:
    done = submit(scheduler, tenant="acme", metadata={"order": "7"})
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)
    broken = submit(scheduler)
    scheduler.leases.fail(gpu.must_claim(), ERROR)
    gone = cancelled(scheduler)
    cancelled(scheduler, url=None)
    assert webhooks.fan_out(text) == 3
    assert webhooks.fan_out(text) == 0

    told = {one.job_id: json.loads(one.payload) for one in webhooks.deliveries()}
    model = scheduler.queue.get(done).model
    assert told == {
        done: ["job.succeeded", done, "succeeded", model, {"order": "7"}, None, True],
        broken: ["job.failed", broken, "failed", model, {}, ERROR.code, False],
        gone: ["job.cancelled", gone, "cancelled", model, {}, None, False],
    }
    assert {(one.tenant, one.url) for one in webhooks.endpoints()} == {("acme", URL), ("default", URL)}


def test_a_job_names_the_events_it_wants(scheduler: Scheduler, gpu: RegisteredGpu, webhooks: Webhooks) -> None:
    submit(scheduler, events=["job.running"])
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)
    webhooks.fan_out(text)
    (only,) = webhooks.deliveries()
    type_, _, status, *_, has_video = json.loads(only.payload)
    assert (type_, status, has_video) == ("job.running", JobStatus.RUNNING, False), "as it was when it happened"


def test_looking_is_without_a_write_where_no_job_has_a_webhook(
    scheduler: Scheduler, webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled(scheduler, url=None)
    scheduler.events.number()
    monkeypatch.setattr(scheduler.database.__class__, "write", None)
    assert webhooks.fan_out(text) == 0
    assert webhooks.claim_due(10, LEASE) == []


def test_the_cursor_moves_on_through_a_log_that_concerns_nobody(
    scheduler: Scheduler, webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "AT_ONCE", 3)
    for _ in range(5):
        cancelled(scheduler, url=None)
    told = cancelled(scheduler)
    assert webhooks.fan_out(text) == 1
    assert [one.job_id for one in webhooks.deliveries()] == [told]
    with scheduler.database.read() as conn:
        assert store.next_after(conn) == scheduler.events.last()


def test_what_was_pruned_before_it_was_read_is_skipped(scheduler: Scheduler, webhooks: Webhooks, clock: Clock) -> None:
    cancelled(scheduler)
    clock.advance(91 * DAY)
    scheduler.pruner.run_once()
    assert webhooks.fan_out(text) == 0
    told = cancelled(scheduler)
    assert webhooks.fan_out(text) == 1
    assert [one.job_id for one in webhooks.deliveries()] == [told]


def test_a_delivery_is_taken_once_and_then_over(scheduler: Scheduler, webhooks: Webhooks, clock: Clock) -> None:
    job_id = cancelled(scheduler)
    due = take_one(webhooks)
    assert (due.url, due.secrets) == (URL, webhooks.secrets("default"))
    assert due.secrets[0] not in repr(due)
    assert take(webhooks) == []
    clock.advance(0.5)
    webhooks.delivered(due.delivery_id, 0.5, 204)
    clock.advance(30 * DAY)
    assert take(webhooks) == []

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
    assert take_one(webhooks).delivery_id  # and nothing is heard of it again
    clock.advance(LEASE - 1)
    with open_scheduler(database_url, data_dir / "other") as other:
        assert take(other.webhooks) == []
        clock.advance(1)
        again = take_one(other.webhooks)
        other.webhooks.delivered(again.delivery_id, 0.1, 200)
        assert [one.job_id for one in other.webhooks.deliveries(status=DeliveryStatus.DELIVERED)] == [job_id]


def test_what_ends_while_nobody_sends_is_told_later(
    scheduler: Scheduler, database_url: str, webhooks: Webhooks, data_dir: Path
) -> None:
    assert take(webhooks) == []
    job_id = cancelled(scheduler)
    with open_scheduler(database_url, data_dir / "other") as other:
        due = take_one(other.webhooks)
        assert json.loads(due.payload)[1] == job_id


def test_retries_follow_the_schedule_until_it_is_given_up(
    scheduler: Scheduler, webhooks: Webhooks, clock: Clock
) -> None:
    cancelled(scheduler)
    for wait in WAITS_SECONDS:
        due = take_one(webhooks)
        assert fail(webhooks, due) is None
        clock.advance(wait - 0.01)
        assert take(webhooks) == []
        clock.advance(0.02)
    due = take_one(webhooks)
    assert fail(webhooks, due) is None
    clock.advance(30 * DAY)
    assert take(webhooks) == []

    delivery, tries = webhooks.delivery(due.delivery_id)
    assert (delivery.status, delivery.tries) == (DeliveryStatus.FAILED, 10)
    assert [one.number for one in tries] == list(range(1, 11))
    assert {(one.status, one.error) for one in tries} == {(500, "the server answered 500")}
    assert sum(WAITS_SECONDS) > 72 * HOUR


def test_a_receiver_that_fails_twice_is_told_at_the_third_try(
    scheduler: Scheduler, webhooks: Webhooks, clock: Clock
) -> None:
    cancelled(scheduler)
    first = take_one(webhooks)
    fail(webhooks, first)
    assert endpoint(webhooks).failing_since == clock.seconds
    clock.advance(5)
    second = take_one(webhooks)
    fail(webhooks, second)
    clock.advance(300)
    third = take_one(webhooks)
    assert first == second == third, "the same id and the same bytes"
    webhooks.delivered(third.delivery_id, 0.1, 200)
    assert endpoint(webhooks).failing_since is None


@pytest.mark.usefixtures("gpu")
def test_waits_are_spread(scheduler: Scheduler, policy: Policy, clock: Clock) -> None:
    chance = random.Random(7)  # noqa: S311  not a secret
    webhooks = Webhooks(scheduler.database, policy, scheduler.events, jitter=chance.random)
    for index in range(8):
        cancelled(scheduler, url=f"{URL}/{index}")
    for due in take(webhooks):
        fail(webhooks, due)
    waits = [(one.next_at or 0.0) - clock.seconds for one in webhooks.deliveries()]
    assert len(set(waits)) == 8
    assert all(4.0 <= wait <= 6.0 for wait in waits)


@pytest.mark.parametrize(("asked", "wait"), [(1.0, 5.0), (90.0, 90.0), (1e9, DAY)])
def test_the_receiver_may_ask_for_a_longer_wait(
    scheduler: Scheduler, webhooks: Webhooks, clock: Clock, asked: float, wait: float
) -> None:
    cancelled(scheduler)
    due = take_one(webhooks)
    fail(webhooks, due, retry_after_seconds=asked)
    assert webhooks.delivery(due.delivery_id)[0].next_at == pytest.approx(clock.seconds + wait)


def test_of_each_endpoint_one_at_a_time(scheduler: Scheduler, webhooks: Webhooks) -> None:
    for _ in range(3):
        cancelled(scheduler)
    cancelled(scheduler, OTHER_URL)
    webhooks.fan_out(text)
    slow = webhooks.claim_due(2, LEASE)
    assert [due.url for due in slow] == [URL]
    (other,) = webhooks.claim_due(2, LEASE, busy={slow[0].endpoint_id: "default"})
    assert other.url == OTHER_URL, "whatever waits for the slow one"
    assert webhooks.claim_due(2, LEASE, busy=dict.fromkeys([slow[0].endpoint_id, other.endpoint_id], "default")) == []


def test_of_each_tenant_a_few_at_a_time(scheduler: Scheduler, webhooks: Webhooks) -> None:
    for index in range(12):
        cancelled(scheduler, f"{URL}/{index}", tenant="mallory")
    cancelled(scheduler, tenant="alice")
    webhooks.fan_out(text)
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
    for due in take(webhooks):
        fail(webhooks, due)
    clock.advance(HOUR)
    cancelled(scheduler, tenant="alice")
    webhooks.fan_out(text)
    first = webhooks.claim_due(2, LEASE)
    assert [one.tenant for one in first] == ["alice"], "though the others have been due for longer"
    assert [one.tenant for one in webhooks.claim_due(2, LEASE)] == ["mallory", "mallory"]


def test_front_ends_that_do_all_at_once_tell_everything_once(
    scheduler: Scheduler, policy: Policy, webhooks: Webhooks
) -> None:
    jobs = [cancelled(scheduler, url=f"{URL}/{index % 5}") for index in range(JOBS)]

    def front_end(_: int) -> list[str]:
        mine = Webhooks(scheduler.database, policy, scheduler.events)
        told, deadline = [], time.monotonic() + 60
        while time.monotonic() < deadline:
            mine.fan_out(text)
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
    reason = fail(webhooks, take_one(webhooks), gone=True)
    disabled = endpoint(webhooks)
    assert (disabled.disabled_at, disabled.disabled_reason) == (clock.seconds, reason)
    third = cancelled(scheduler)
    clock.advance(DAY)
    assert take(webhooks) == []
    waiting = webhooks.deliveries(status=DeliveryStatus.PENDING)
    assert {(one.job_id, one.next_at) for one in waiting} == {(first, None), (second, None), (third, None)}
    with pytest.raises(InvalidState, match="enable it first"):
        webhooks.redeliver(waiting[0].id, None, "ops")

    assert webhooks.enable(disabled.id, None, "key_1 (ops)").disabled_at is None
    webhooks.enable(disabled.id, None, "key_1 (ops)")
    told = set()
    while due := take(webhooks):
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
        for due in take(webhooks):
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
        assert fail(webhooks, take_one(webhooks)) is None
        clock.advance(wait + 1)
    cancelled(scheduler)
    assert fail(webhooks, take_one(webhooks)) is None
    assert endpoint(webhooks).disabled_at is None


def test_a_failure_that_comes_after_a_success_changes_nothing(scheduler: Scheduler, webhooks: Webhooks) -> None:
    cancelled(scheduler)
    due = take_one(webhooks)
    webhooks.delivered(due.delivery_id, 0.1, 200)
    fail(webhooks, due)
    delivery, tries = webhooks.delivery(due.delivery_id)
    assert (delivery.status, delivery.next_at, len(tries)) == (DeliveryStatus.DELIVERED, None, 2)


@pytest.mark.parametrize("end", ["delivered", "given up", "pending"])
def test_redelivery_on_request(scheduler: Scheduler, webhooks: Webhooks, clock: Clock, end: str) -> None:
    cancelled(scheduler)
    due = take_one(webhooks)
    if end == "delivered":
        webhooks.delivered(due.delivery_id, 0.1, 200)
    else:
        fail(webhooks, due)
    if end == "given up":
        for wait in WAITS_SECONDS:
            clock.advance(wait)
            fail(webhooks, take_one(webhooks))
    assert take(webhooks) == []

    assert webhooks.redeliver(due.delivery_id, "default", "key_1 (ops)").status is DeliveryStatus.PENDING
    (told,) = scheduler.events.read(subject=due.endpoint_id)
    assert (told.type, told.actor, told.data) == (
        "webhook.redelivered",
        "key_1 (ops)",
        {"delivery": due.delivery_id, "url": URL},
    )
    assert take(webhooks) == [due], "the same id and the same bytes"
    fail(webhooks, due)
    after = webhooks.delivery(due.delivery_id)[0]
    assert after.status is (DeliveryStatus.FAILED if end == "given up" else DeliveryStatus.PENDING)


def test_each_tenant_sees_its_own(scheduler: Scheduler, webhooks: Webhooks) -> None:
    ours, theirs = cancelled(scheduler, tenant="acme"), cancelled(scheduler, tenant="zeta")
    webhooks.fan_out(text)
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
    webhooks.fan_out(text)
    seen, cursor = list[str](), None
    while page := webhooks.deliveries(before_id=cursor, limit=2):
        seen, cursor = seen + [one.job_id for one in page], page[-1].id
    assert sorted(seen) == sorted(jobs)
    first, second = webhooks.endpoints(limit=2)
    assert webhooks.endpoints(before_id=first.id, limit=1) == [second]


def test_a_secret_is_in_force_for_a_day_after_it_was_replaced(
    scheduler: Scheduler, webhooks: Webhooks, clock: Clock
) -> None:
    (old,) = webhooks.secrets("acme")
    assert old.startswith("whsec_")
    assert webhooks.secrets("acme") == (old,)
    assert webhooks.secrets("zeta") != (old,)
    new = webhooks.rotate_secret("acme", "key_1 (ops)")
    cancelled(scheduler, tenant="acme")
    assert take_one(webhooks).secrets == webhooks.secrets("acme") == (new, old)
    clock.advance(DAY)
    assert webhooks.secrets("acme") == (new,)
    for _ in range(9):
        webhooks.rotate_secret("acme", "key_1 (ops)")
    assert len(webhooks.secrets("acme")) == 5
    (event, *_) = scheduler.events.read(subject="acme")
    assert (event.type, event.tenant, event.actor, event.data) == (
        "webhook.secret_rotated",
        "acme",
        "key_1 (ops)",
        {},
    )


def test_a_secret_is_made_once(scheduler: Scheduler, webhooks: Webhooks) -> None:
    with ThreadPoolExecutor(SENDERS) as threads:
        found = set(threads.map(lambda _: webhooks.secrets("acme"), range(SENDERS)))
    assert len(found) == 1


def test_old_deliveries_are_pruned_but_not_those_under_way(
    scheduler: Scheduler, webhooks: Webhooks, clock: Clock, count: Callable[[], dict[str, int]]
) -> None:
    cancelled(scheduler)
    webhooks.delivered(take_one(webhooks).delivery_id, 0.1, 200)
    cancelled(scheduler, OTHER_URL)
    take_one(webhooks)
    clock.advance(91 * DAY)
    cancelled(scheduler)
    webhooks.fan_out(text)
    scheduler.pruner.run_once()
    assert count() == {"webhook_deliveries": 2, "webhook_attempts": 0, "webhook_endpoints": 2}
    for _ in range(2):
        for due in take(webhooks):
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


def test_a_secret_is_in_no_error(scheduler: Scheduler) -> None:
    """Errors end up in the log."""
    secret = scheduler.webhooks.rotate_secret("default", "test")
    with pytest.raises(Exception, match="no_such_table") as caught, scheduler.database.write() as conn:
        conn.execute(sql("UPDATE no_such_table SET secret = :secret"), {"secret": secret})
    assert secret not in "".join(traceback.format_exception(caught.value))
