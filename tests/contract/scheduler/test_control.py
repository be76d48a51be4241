"""The operator's hand on the queue: pause, priorities, the order of what is queued already."""

from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.errors import InvalidParameter, InvalidState, NotFound
from scheduler.policy import Order, Policy
from scheduler.service import Scheduler
from tests.contract.scheduler.test_order import run_all
from tests.support.databases import Clock
from tests.support.fleet import MODEL, new_job, open_scheduler, register_gpu


def submit(scheduler: Scheduler, **changes: object) -> str:
    return scheduler.queue.submit(new_job(**changes)).job.id


def test_a_paused_queue_starts_nothing_and_lets_running_jobs_end(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    submit(scheduler)
    lease = gpu.must_claim()
    waiting = submit(scheduler)

    state = scheduler.control.pause("  power cut at noon ", "alice")

    assert (state.paused_at, state.pause_reason, state.pause_actor) == (clock.seconds, "power cut at noon", "alice")
    assert gpu.claim() is None
    scheduler.leases.release(lease)
    assert gpu.claim() is None
    assert scheduler.control.resume("alice").paused_at is None
    assert set(run_all(gpu)) == {lease.job_id, waiting}


def test_a_second_pause_replaces_the_reason_and_keeps_the_time(scheduler: Scheduler, clock: Clock) -> None:
    first = scheduler.control.pause("one", "alice")
    clock.advance(5)
    second = scheduler.control.pause("two", "bob")

    assert (second.paused_at, second.pause_reason, second.pause_actor) == (first.paused_at, "two", "bob")


def test_a_pause_needs_a_reason(scheduler: Scheduler) -> None:
    with pytest.raises(InvalidParameter, match="reason"):
        scheduler.control.pause("  ", "alice")
    assert scheduler.control.state().paused_at is None


def test_the_state_counts_by_class(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    submit(scheduler, not_before=clock.seconds + 60)
    clock.advance(2)
    submit(scheduler)
    clock.advance(7)
    for _ in range(2):
        submit(scheduler)
    submit(scheduler, width=768, height=768)

    state = scheduler.control.state()

    assert (state.ready, state.deferred, state.running) == (4, 1, 0)
    assert state.oldest_wait_seconds == 7
    assert [(one.model, one.plan, one.jobs) for one in state.classes] == [(MODEL.id, "fp16", 3), (MODEL.id, "fp16", 1)]
    assert state.classes[0].largest_bytes < state.classes[1].largest_bytes
    gpu.must_claim()
    assert scheduler.control.state().running == 1


def test_a_higher_priority_moves_a_queued_job_ahead(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    first, second = submit(scheduler), submit(scheduler)

    job = scheduler.control.reprioritize(second, 2.0, "alice")

    assert (job.priority, job.weight) == (2.0, pytest.approx(2 * scheduler.queue.get(first).weight))
    assert run_all(gpu) == [second, first]


def test_a_priority_given_later_counts_as_if_given_at_once(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    changed, given = submit(scheduler), submit(scheduler, priority=7.0)
    clock.advance(100)
    scheduler.control.reprioritize(changed, 7.0, "alice")

    assert scheduler.queue.get(changed).rank == pytest.approx(scheduler.queue.get(given).rank, abs=1e-9)


def test_only_a_queued_jobs_priority_can_be_changed(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    submit(scheduler)
    lease = gpu.must_claim()

    with pytest.raises(InvalidState, match="running"):
        scheduler.control.reprioritize(lease.job_id, 2.0, "alice")
    with pytest.raises(NotFound):
        scheduler.control.reprioritize("job_00000000000000000000000000", 2.0, "alice")
    with pytest.raises(InvalidParameter, match="priority"):
        scheduler.control.reprioritize(lease.job_id, 0.0, "alice")


@pytest.mark.parametrize("order", [Order.FIFO, Order.SHORTEST_FIRST])
def test_what_is_queued_takes_a_new_order_over(
    scheduler: Scheduler, database_url: str, data_dir: Path, clock: Clock, order: Order
) -> None:
    gpu = register_gpu(scheduler)
    heavy = submit(scheduler, num_inference_steps=80)
    clock.advance(1)
    lasting = submit(scheduler, num_inference_steps=200, priority=0.5)
    clock.advance(1)
    short = submit(scheduler, num_inference_steps=10)

    with open_scheduler(database_url, data_dir, replace(Policy(), order=order)) as other:
        assert other.control.rerank() == 3
        assert other.control.rerank() == 0, "done already"

    by_order = {Order.FIFO: [heavy, lasting, short], Order.SHORTEST_FIRST: [short, heavy, lasting]}
    assert run_all(gpu) == by_order[order]


def test_a_rerank_changes_nothing_where_the_order_is_the_same(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    before = scheduler.queue.get(submit(scheduler)).rank

    scheduler.control.rerank()

    assert scheduler.queue.list_jobs()[0].rank == before
