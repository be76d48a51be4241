"""The event log: whoever reads on from where they left off gets every event once, and each job's in order."""

import contextlib
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Connection, text

from scheduler.errors import EventsExpired
from scheduler.events import Event, Events
from scheduler.service import Scheduler
from scheduler.store import eventlog
from tests.support.databases import Clock
from tests.support.fleet import ERROR, HALF_WAY, MEASURED, RESULT, new_job, register_gpu

WRITERS, READERS, CHANGES, JOBS = 6, 4, 120, 3

only_postgres = pytest.mark.parametrize("engine", ["postgresql"])


def tell(scheduler: Scheduler, *types: str, subject: str = "job_a", **more: Any) -> None:
    """Commit an event of each of `types`, each in a transaction of its own."""
    for one in types:
        with scheduler.database.write() as conn:
            eventlog.append(conn, one, subject, scheduler.database.now(conn), **more)


@contextlib.contextmanager
def telling(scheduler: Scheduler, *types: str, subject: str = "job_a") -> Iterator[Connection]:
    """A transaction that has written events and commits when the block ends."""
    with scheduler.database.write() as conn:
        for one in types:
            eventlog.append(conn, one, subject, 1.0)
        yield conn


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


def follow(events: Events, until: int, limit: int = 7) -> list[Event]:
    """Read on and on, as a follower does, until so many events have come."""
    seen: list[Event] = []
    deadline = time.monotonic() + 60
    while len(seen) < until:
        assert time.monotonic() < deadline, f"only {len(seen)} of {until} events came"
        seen += events.read(seen[-1].position if seen else 0, limit)
    return seen


def test_an_event_has_all_that_was_written(scheduler: Scheduler, clock: Clock) -> None:
    data = {"reason": "new fans; “quiet”", "jobs": [1, 2.5, None], "nested": {"a": True}}
    with scheduler.database.write() as conn:
        eventlog.append(conn, "gpu.draining", "GPU-0", clock.seconds, tenant="acme", actor="api", data=data)
        eventlog.append(conn, "queue.paused", "queue", clock.seconds + 1)

    assert scheduler.events.read() == [
        Event(1, clock.seconds, "gpu.draining", "GPU-0", "acme", "api", data),
        Event(2, clock.seconds + 1, "queue.paused", "queue", None, None, {}),
    ]


def test_a_reader_goes_on_from_where_it_left_off(scheduler: Scheduler) -> None:
    events = scheduler.events
    assert (events.read(), events.last()) == ([], 0)
    tell(scheduler, "a", "b", "c")
    first = events.read(limit=2)
    assert types(first) == ["a", "b"]
    tell(scheduler, "d")
    rest = events.read(after=first[-1].position)
    assert types(rest) == ["c", "d"]
    assert [event.position for event in first + rest] == [1, 2, 3, 4]
    assert events.last() == 4
    assert events.read(after=4) == []
    assert events.read(after=99) == []


def test_one_subject_or_tenant_may_be_asked_for(scheduler: Scheduler) -> None:
    tell(scheduler, "a", "b", subject="job_a", tenant="acme")
    tell(scheduler, "a", "c", subject="job_b", tenant="zeta")
    tell(scheduler, "d", subject="job_a", tenant="acme")

    assert types(scheduler.events.read(subject="job_a")) == ["a", "b", "d"]
    assert types(scheduler.events.read(after=1, limit=1, subject="job_a")) == ["b"]
    assert types(scheduler.events.read(tenant="zeta")) == ["a", "c"]
    assert scheduler.events.read(subject="job_b", tenant="acme") == []


def test_what_is_rolled_back_leaves_neither_event_nor_gap(scheduler: Scheduler) -> None:
    tell(scheduler, "a")
    with pytest.raises(RuntimeError), telling(scheduler, "never"):
        raise RuntimeError
    tell(scheduler, "b")

    assert [(event.position, event.type) for event in scheduler.events.read()] == [(1, "a"), (2, "b")]


@only_postgres
def test_a_commit_that_comes_late_is_not_missed(scheduler: Scheduler) -> None:
    events, seen = scheduler.events, list[Event]()
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        first.enter_context(telling(scheduler, "a1", "a2", subject="job_a"))
        second.enter_context(telling(scheduler, "b1", "b2", subject="job_b"))
        assert events.read() == []
        second.close()
        seen += events.read()
        assert types(seen) == ["b1", "b2"]
        tell(scheduler, "b3", subject="job_b")
        assert events.last() == 3
        first.close()
        seen += events.read(after=seen[-1].position)

    assert types(seen) == ["b1", "b2", "b3", "a1", "a2"]
    assert [event.position for event in seen] == [1, 2, 3, 4, 5]
    assert events.read() == seen, "and so it is for whoever reads from the start"


@only_postgres
def test_events_of_a_job_keep_its_order_around_a_transaction_that_stays_open(scheduler: Scheduler) -> None:
    tell(scheduler, "a1", subject="job_a")
    with telling(scheduler, "b1", subject="job_b"):
        tell(scheduler, "a2", subject="job_a")
        assert types(scheduler.events.read(limit=1)) == ["a1"]
        tell(scheduler, "a3", subject="job_a")
        assert types(scheduler.events.read(subject="job_a")) == ["a1", "a2", "a3"]
    tell(scheduler, "b2", subject="job_b")

    assert types(scheduler.events.read()) == ["a1", "a2", "a3", "b1", "b2"]


@only_postgres
def test_a_reader_that_dies_while_it_numbers_changes_nothing(scheduler: Scheduler) -> None:
    tell(scheduler, "a", "b")
    with contextlib.suppress(RuntimeError), scheduler.database.write() as conn:
        assert eventlog.number(conn) == 2
        raise RuntimeError
    tell(scheduler, "c")

    assert [(event.position, event.type) for event in scheduler.events.read()] == [(1, "a"), (2, "b"), (3, "c")]


@only_postgres
def test_a_backlog_is_numbered_in_bounded_batches(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 2 * eventlog.AT_ONCE + 1
    with scheduler.database.write() as conn:
        insert = "INSERT INTO events (at, type, subject, data) SELECT n, n, 'job', '{}' FROM generate_series(1, :n) n"
        conn.execute(text(insert), {"n": count})
    batches: list[int] = []
    number = eventlog.number

    def counted(conn: Connection) -> int:
        batches.append(number(conn))
        return batches[-1]

    monkeypatch.setattr(eventlog, "number", counted)

    assert [event.position for event in scheduler.events.read(after=count - 1)] == [count]
    assert batches == [eventlog.AT_ONCE, eventlog.AT_ONCE, 1]
    assert [int(event.type) for event in scheduler.events.read(limit=count)] == list(range(1, count + 1))


@only_postgres
def test_a_reader_that_finds_nothing_new_waits_for_nobody(scheduler: Scheduler) -> None:
    tell(scheduler, "a")
    scheduler.events.number()
    with scheduler.database.write() as conn:
        eventlog.number(conn)  # holds the lock until the block ends
        assert types(scheduler.events.read()) == ["a"]
        assert scheduler.events.last() == 1


def test_many_writers_and_readers_at_once(scheduler: Scheduler) -> None:
    """Each writer changes one job after another, each change under the row's lock, as the transitions are."""
    with scheduler.database.write() as conn:
        for job in range(JOBS):
            conn.execute(text("INSERT INTO tenants (id, virtual_at) VALUES (:id, 0)"), {"id": f"job_{job}"})
    change = text("UPDATE tenants SET virtual_at = virtual_at + 1 WHERE id = :id RETURNING virtual_at")

    chance = random.Random(7)  # noqa: S311  not a secret
    # Of two jobs in one change the first is always the same one, lest two writers wait for each other.
    changes = [sorted(chance.sample(range(JOBS), chance.choice([1, 1, 2]))) for _ in range(CHANGES)]
    total = sum(map(len, changes))

    def write(jobs: list[int]) -> None:
        with scheduler.database.write() as conn:
            for subject in [f"job_{job}" for job in jobs]:
                nth = conn.execute(change, {"id": subject}).scalar_one()
                eventlog.append(conn, "changed", subject, 1.0, data={"nth": int(nth)})

    with ThreadPoolExecutor(WRITERS + READERS) as threads:
        readers = [threads.submit(follow, scheduler.events, total) for _ in range(READERS)]
        for done in [threads.submit(write, jobs) for jobs in changes]:
            done.result()
        logs = [reader.result() for reader in readers]

    assert [event.position for event in logs[0]] == list(range(1, total + 1))
    assert all(log == logs[0] for log in logs)
    for job in range(JOBS):
        told = [event.data["nth"] for event in logs[0] if event.subject == f"job_{job}"]
        assert told == list(range(1, len(told) + 1))


def test_a_reader_that_was_away_too_long_learns_it(scheduler: Scheduler, clock: Clock) -> None:
    tell(scheduler, "a", "b")
    clock.advance(100)
    tell(scheduler, "c", "d")
    scheduler.events.number()
    with scheduler.database.write() as conn:
        assert eventlog.prune(conn, clock.seconds) == 2

    with pytest.raises(EventsExpired, match="events 2 to 2 are no longer kept, after 90 days") as expired:
        scheduler.events.read(after=1)
    assert expired.value.first == 3
    with pytest.raises(EventsExpired):
        scheduler.events.read(after=1, subject="job_of_no_event")
    assert types(scheduler.events.read(after=expired.value.first - 1)) == ["c", "d"]
    assert types(scheduler.events.read()) == ["c", "d"], "0 is the oldest that is kept"


def test_positions_go_on_after_everything_has_aged(scheduler: Scheduler, clock: Clock) -> None:
    tell(scheduler, "a", "b", "c")
    scheduler.events.number()
    clock.advance(1000)
    with scheduler.database.write() as conn:
        assert eventlog.prune(conn, clock.seconds) == 2
        assert eventlog.prune(conn, clock.seconds) == 0, "the newest one stays"
    assert scheduler.events.last() == 3
    tell(scheduler, "d")
    assert [(event.position, event.type) for event in scheduler.events.read(after=3)] == [(4, "d")]


def test_pruning_leaves_no_gap_where_the_clock_has_stepped_back(scheduler: Scheduler) -> None:
    with scheduler.database.write() as conn:
        for at in (1.0, 9.0, 2.0, 9.0):
            eventlog.append(conn, "a", "job_a", at)
    scheduler.events.number()
    with scheduler.database.write() as conn:
        assert eventlog.prune(conn, 5.0) == 1

    assert [event.at for event in scheduler.events.read()] == [9.0, 2.0, 9.0]


def test_the_life_of_jobs_is_told_in_order(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    job_id = scheduler.queue.submit(new_job(tenant="acme")).job.id
    scheduler.leases.report(gpu.must_claim(), HALF_WAY)
    lease = gpu.claim()
    assert lease is None
    (held,) = scheduler.fleet.gpu("GPU-0").leases
    scheduler.control.pause("new release", "api")
    assert scheduler.leases.release_worker(held.worker_id) == [job_id]
    scheduler.control.resume("api")
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)
    failed = scheduler.queue.submit(new_job()).job.id
    scheduler.leases.fail(gpu.must_claim(), ERROR)
    cancelled = scheduler.queue.submit(new_job()).job.id
    running = gpu.must_claim()
    scheduler.queue.cancel(cancelled)
    scheduler.leases.cancelled(running)

    told = {one: types(scheduler.events.read(subject=one)) for one in (job_id, failed, cancelled, "queue")}
    assert told == {
        job_id: ["job.queued", "job.running", "job.requeued", "job.running", "job.succeeded"],
        failed: ["job.queued", "job.running", "job.failed"],
        cancelled: ["job.queued", "job.running", "job.cancel_requested", "job.cancelled"],
        "queue": ["queue.paused", "queue.resumed"],
    }
    everything = scheduler.events.read()
    assert all(later.position == earlier.position + 1 for earlier, later in pairwise(everything))
    assert {event.tenant for event in everything if event.subject == job_id} == {"acme"}


def test_the_latest_of_a_subject_come_first(scheduler: Scheduler) -> None:
    tell(scheduler, "gpu.draining", "gpu.drained", "gpu.active", subject="GPU-0")
    tell(scheduler, "gpu.faulted", subject="GPU-1")
    assert types(scheduler.events.latest("GPU-0", 2)) == ["gpu.active", "gpu.drained"]
    assert types(scheduler.events.latest("GPU-0", 10)) == ["gpu.active", "gpu.drained", "gpu.draining"]
    assert scheduler.events.latest("GPU-2", 10) == []
