"""The secrets that sign webhooks: one a tenant, made once, and in force for a day after it was replaced."""

import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text as sql

from scheduler.service import Scheduler
from scheduler.webhooks import Webhooks
from tests.support.databases import Clock
from tests.support.fleet import RegisteredGpu, register_gpu
from tests.support.webhooks import cancelled, take_one

DAY = 86_400.0
SENDERS = 6


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


@pytest.fixture
def webhooks(scheduler: Scheduler, gpu: RegisteredGpu) -> Webhooks:  # no job without it
    return scheduler.webhooks


def test_a_secret_is_in_force_for_a_day_after_it_was_replaced(
    scheduler: Scheduler, webhooks: Webhooks, clock: Clock
) -> None:
    (old,) = webhooks.secrets("acme")
    assert old.startswith("whsec_")
    assert webhooks.secrets("acme") == (old,)
    assert webhooks.secrets("zeta") != (old,)
    new = webhooks.rotate_secret("acme", "key_1 (ops)")
    cancelled(scheduler, tenant="acme")
    assert take_one(scheduler).secrets == webhooks.secrets("acme") == (new, old)
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


def test_a_secret_is_in_no_error(scheduler: Scheduler) -> None:
    """Errors end up in the log."""
    secret = scheduler.webhooks.rotate_secret("default", "test")
    with pytest.raises(Exception, match="no_such_table") as caught, scheduler.database.write() as conn:
        conn.execute(sql("UPDATE no_such_table SET secret = :secret"), {"secret": secret})
    assert secret not in "".join(traceback.format_exception(caught.value))
