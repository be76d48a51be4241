"""Fanning out: each event is written down once for the endpoint that is to be told of it."""

import json

import pytest

from scheduler.policy import Policy
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from scheduler.store import webhooks as store
from scheduler.webhooks import Webhooks
from tests.support.databases import Clock
from tests.support.fleet import ERROR, MEASURED, RESULT, RegisteredGpu, register_gpu
from tests.support.webhooks import LEASE, URL, cancelled, submit, text

DAY = 86_400.0


@pytest.fixture
def policy() -> Policy:
    return Policy(gpu_memory_seconds=1000 * DAY)  # so that jobs are taken after the clock has moved on


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


@pytest.fixture
def webhooks(scheduler: Scheduler, gpu: RegisteredGpu) -> Webhooks:  # no job without it
    return scheduler.webhooks


def test_the_ends_of_a_job_are_told_by_default(scheduler: Scheduler, gpu: RegisteredGpu, webhooks: Webhooks) -> None:
    done = submit(scheduler, tenant="acme", metadata={"order": "7"})
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)
    broken = submit(scheduler)
    scheduler.leases.fail(gpu.must_claim(), ERROR)
    gone = cancelled(scheduler)
    cancelled(scheduler, url=None)
    assert scheduler.fan_out.tell(text) == 3
    assert scheduler.fan_out.tell(text) == 0

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
    scheduler.fan_out.tell(text)
    (only,) = webhooks.deliveries()
    type_, _, status, *_, has_video = json.loads(only.payload)
    assert (type_, status, has_video) == ("job.running", JobStatus.RUNNING, False), "as it was when it happened"


def test_looking_is_without_a_write_where_no_job_has_a_webhook(
    scheduler: Scheduler, webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled(scheduler, url=None)
    scheduler.events.number()
    monkeypatch.setattr(scheduler.database.__class__, "write", None)
    assert scheduler.fan_out.tell(text) == 0
    assert webhooks.claim_due(10, LEASE) == []


def test_the_cursor_moves_on_through_a_log_that_concerns_nobody(
    scheduler: Scheduler, webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "AT_ONCE", 3)
    for _ in range(5):
        cancelled(scheduler, url=None)
    told = cancelled(scheduler)
    assert scheduler.fan_out.tell(text) == 1
    assert [one.job_id for one in webhooks.deliveries()] == [told]
    with scheduler.database.read() as conn:
        assert store.next_after(conn) == scheduler.events.last()


def test_what_was_pruned_before_it_was_read_is_skipped(scheduler: Scheduler, webhooks: Webhooks, clock: Clock) -> None:
    cancelled(scheduler)
    clock.advance(91 * DAY)
    scheduler.pruner.run_once()
    assert scheduler.fan_out.tell(text) == 0
    told = cancelled(scheduler)
    assert scheduler.fan_out.tell(text) == 1
    assert [one.job_id for one in webhooks.deliveries()] == [told]
