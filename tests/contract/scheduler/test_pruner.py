"""Retention: what is old and over goes, with all that belongs to it; everything else stays."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from scheduler import pruner as pruning
from scheduler.blobs import open_blobs
from scheduler.errors import NotFound, StoreUnreachable
from scheduler.policy import Policy
from scheduler.pruner import Pruned, Pruner
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from scheduler.store import eventlog
from scheduler.store import schema as s
from tests.support.databases import Clock
from tests.support.fleet import ERROR, HALF_WAY, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu

DAY = 86_400.0
KEPT = Policy().retention_seconds
NOTHING = Pruned()
OF_JOBS = ("jobs", "job_states", "leases", "results", "idempotency_keys", "reservations")


@pytest.fixture(autouse=True)
def breathless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_BREATH_SECONDS", 0.0)


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


@pytest.fixture
def put(scheduler: Scheduler, make_file: Callable[[bytes], Path]) -> Callable[[str], None]:
    return lambda key: scheduler.blobs.put_file(key, make_file(b"x"))


def submit(scheduler: Scheduler, **changes: Any) -> str:
    return scheduler.queue.submit(new_job(**changes)).job.id


def cancelled_jobs(scheduler: Scheduler, count: int) -> list[str]:
    """Make jobs that ended now, a second apart, faster than one by one."""
    made = [new_job() for _ in range(count)]
    scheduler.queue.submit_many(made)
    with scheduler.database.write() as conn:
        now = scheduler.database.now(conn)
        for index, job in enumerate(made):
            ended = {"status": JobStatus.CANCELLED, "finished_at": now - index}
            conn.execute(update(s.job_states).where(s.job_states.c.job_id == job.id).values(ended))
    return [job.id for job in reversed(made)]


def counts(scheduler: Scheduler, *tables: str) -> dict[str, int]:
    with scheduler.database.read() as conn:
        return {
            name: conn.execute(select(func.count()).select_from(s.metadata.tables[name])).scalar_one()
            for name in tables
        }


def run_until_done(pruner: Pruner) -> list[Pruned]:
    done = [pruner.run_once()]
    while done[-1]:
        assert len(done) < 100
        done.append(pruner.run_once())
    return done[:-1]


def test_nothing_to_do_is_falsy(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    submit(scheduler)
    done = scheduler.pruner.run_once()
    assert (done, bool(done)) == (NOTHING, False)


def test_only_jobs_that_ended_long_ago_go(
    scheduler: Scheduler, gpu: RegisteredGpu, put: Callable[[str], None], clock: Clock
) -> None:
    succeeded = submit(scheduler)
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)
    failed = submit(scheduler)
    scheduler.leases.fail(gpu.must_claim(), ERROR)
    cancelled = submit(scheduler)
    scheduler.queue.cancel(cancelled)
    running = submit(scheduler)
    lease = gpu.must_claim()
    scheduler.leases.report(lease, HALF_WAY)
    queued, deferred = submit(scheduler), submit(scheduler, not_before=clock.seconds + 1000 * DAY)
    clock.advance(DAY)
    young = submit(scheduler)
    scheduler.queue.cancel(young)
    for job_id in (succeeded, failed, cancelled, running, queued, deferred, young):
        put(f"jobs/{job_id}/input.png")
    put(f"jobs/{succeeded}/1/video.mp4")
    clock.advance(KEPT - DAY)
    assert scheduler.pruner.run_once().jobs == 0, "not before the time is over"
    clock.advance(1)

    done = scheduler.pruner.run_once()

    assert (done.jobs, done.stuck_jobs, done.problem) == (3, 0, None)
    for gone in (succeeded, failed, cancelled):
        with pytest.raises(NotFound):
            scheduler.queue.get(gone)
        assert gone not in scheduler.blobs.folders("jobs")
    for kept in (running, queued, deferred, young):
        assert scheduler.queue.get(kept).id == kept
        assert scheduler.blobs.size(f"jobs/{kept}/input.png") == 1
    assert scheduler.pruner.run_once() == NOTHING
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    assert scheduler.queue.get(running).status is JobStatus.SUCCEEDED


def test_nothing_of_a_job_is_left_and_its_key_is_free(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    first = submit(scheduler, idempotency_key="k", payload_sha256="1" * 64)
    scheduler.leases.release(gpu.must_claim())
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)
    there = {"jobs": 1, "job_states": 1, "attempts": 2, "results": 1, "idempotency_keys": 1}
    assert counts(scheduler, *there) == there
    clock.advance(KEPT + 1)

    assert scheduler.pruner.run_once().jobs == 1

    assert counts(scheduler, *OF_JOBS) == dict.fromkeys(OF_JOBS, 0)
    gpu = register_gpu(scheduler, "GPU-1")
    again = scheduler.queue.submit(new_job(idempotency_key="k", payload_sha256="2" * 64))
    assert (again.created, again.job.id == first) == (True, False)


def test_attempts_outlive_their_job_but_not_the_time_that_all_is_kept(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    """They are the ledger of GPU time: what a deleted job has cost was paid for."""
    deleted = submit(scheduler, tenant="acme")
    scheduler.leases.release(gpu.must_claim())
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)
    scheduler.queue.delete(deleted)
    clock.advance(DAY)
    gpu = register_gpu(scheduler, "GPU-1")
    waiting = submit(scheduler)
    scheduler.leases.release(gpu.must_claim())

    clock.advance(KEPT - DAY)
    assert scheduler.pruner.run_once().attempts == 0
    with scheduler.database.read() as conn:
        owners = conn.execute(select(s.attempts.c.job_id, s.attempts.c.tenant)).all()
    assert sorted(owners) == sorted([(deleted, "acme"), (deleted, "acme"), (waiting, "default")])

    clock.advance(1)
    assert scheduler.pruner.run_once().attempts == 2
    clock.advance(DAY)
    scheduler.pruner.run_once()
    assert len(scheduler.queue.attempts(waiting)) == 1, "a job that is there keeps its history"


def test_many_old_attempts_go_in_batches(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_ATTEMPTS_AT_ONCE", 2)
    monkeypatch.setattr(pruning, "_BATCHES", 2)
    job_id = submit(scheduler)
    for _ in range(6):
        scheduler.leases.release(gpu.must_claim())
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)
    clock.advance(KEPT + 1)
    assert [done.attempts for done in run_until_done(scheduler.pruner)] == [4, 3]
    assert scheduler.queue.attempts(job_id) == []


def test_a_run_is_bounded_and_the_next_goes_on(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_JOBS_AT_ONCE", 3)
    monkeypatch.setattr(pruning, "_BATCHES", 2)
    made = cancelled_jobs(scheduler, 14)
    clock.advance(KEPT + 1)

    assert scheduler.pruner.run_once().jobs == 6
    assert counts(scheduler, "jobs") == {"jobs": 8}
    for job_id in made[6:]:
        assert scheduler.queue.get(job_id), "the oldest go first"
    assert [done.jobs for done in run_until_done(scheduler.pruner)] == [6, 2]


def test_a_job_whose_files_stay_stays_and_holds_up_no_other(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_JOBS_AT_ONCE", 2)
    monkeypatch.setattr(pruning, "_BATCHES", 1)
    made = cancelled_jobs(scheduler, 5)
    stuck = {f"jobs/{job_id}" for job_id in made[:3]}
    delete_prefix = scheduler.blobs.delete_prefix

    def failing(prefix: str) -> int:
        if prefix in stuck:
            raise StoreUnreachable("the blob store cannot be used: Permission denied")
        return delete_prefix(prefix)

    monkeypatch.setattr(scheduler.blobs, "delete_prefix", failing)
    clock.advance(KEPT + 1)

    problem = "the blob store cannot be used: Permission denied"
    runs = [scheduler.pruner.run_once() for _ in range(3)]
    assert [(run.jobs, run.stuck_jobs) for run in runs] == [(0, 2), (1, 1), (1, 0)]
    assert (runs[0].problem, runs[2].problem) == (problem, None)
    assert counts(scheduler, "jobs") == {"jobs": 3}
    stuck.clear()
    assert sum(done.jobs for done in run_until_done(scheduler.pruner)) == 3, "their turn comes again"


def test_a_slow_blob_store_does_not_keep_a_run_from_ending(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled_jobs(scheduler, 3)
    clock.advance(KEPT + 1)
    with monkeypatch.context() as patch:
        patch.setattr(pruning, "_FILES_SECONDS", 0.0)
        assert scheduler.pruner.run_once().jobs == 0
    assert scheduler.pruner.run_once().jobs == 3


def test_a_batch_that_the_database_refuses_stops_no_other(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_JOBS_AT_ONCE", 2)
    cancelled_jobs(scheduler, 6)
    scheduler.events.number()
    clock.advance(KEPT + 1)
    write, calls = scheduler.database.write, []

    def refusing() -> Any:
        calls.append("write")
        if len(calls) == 3:  # after the events' and the first batch's
            raise StoreUnreachable("the database cannot be used: canceling statement due to lock timeout")
        return write()

    monkeypatch.setattr(scheduler.database, "write", refusing)

    done = scheduler.pruner.run_once()

    assert (done.jobs, done.stuck_jobs) == (4, 2)
    assert done.problem is not None
    assert "lock timeout" in done.problem
    assert scheduler.pruner.run_once().jobs == 2


def test_files_go_from_any_store_and_those_of_others_stay(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, blob_url: str, make_file: Callable[[bytes], Path]
) -> None:
    blobs = open_blobs(blob_url)
    old, young = cancelled_jobs(scheduler, 1)[0], submit(scheduler)
    keys = [f"jobs/{old}/input.png", f"jobs/{old}/1/video.mp4", f"jobs/{young}/input.png", "models/unet"]
    for key in keys:
        blobs.put_file(key, make_file(b"x"))
    clock.advance(KEPT + 1)

    assert Pruner(scheduler.database, blobs, Policy()).run_once().jobs == 1

    for gone in keys[:2]:
        with pytest.raises(NotFound):
            blobs.size(gone)
    assert [blobs.size(kept) for kept in keys[2:]] == [1, 1]


def test_claims_go_on_while_files_are_deleted(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled_jobs(scheduler, 3)
    clock.advance(KEPT + 1)
    gpu = register_gpu(scheduler, "GPU-1")
    claimed = []

    def claiming(_prefix: str) -> int:
        submit(scheduler)
        claimed.append(gpu.must_claim())
        scheduler.leases.succeed(claimed[-1], RESULT, MEASURED)
        return 0

    monkeypatch.setattr(scheduler.blobs, "delete_prefix", claiming)

    assert scheduler.pruner.run_once().jobs == 3
    assert counts(scheduler, "jobs") == {"jobs": len(claimed)}


@pytest.mark.parametrize("engine", ["postgresql"])
def test_a_row_that_somebody_holds_is_left_for_later(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    held, *_ = cancelled_jobs(scheduler, 3)
    clock.advance(KEPT + 1)
    with scheduler.database.write() as conn:
        conn.execute(select(s.jobs.c.id).where(s.jobs.c.id == held).with_for_update())
        assert scheduler.pruner.run_once().jobs == 2
    assert scheduler.pruner.run_once().jobs == 1


def test_several_pruners_at_once_do_it_once(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    cancelled_jobs(scheduler, 250)
    scheduler.events.number()
    events = counts(scheduler, "events")["events"]
    clock.advance(KEPT + 1)
    pruners = [Pruner(scheduler.database, scheduler.blobs, Policy()) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        done = [found for runs in threads.map(run_until_done, pruners) for found in runs]

    assert sum(found.jobs for found in done) == 250
    assert sum(found.events for found in done) == events - 1
    assert not any(found.stuck_jobs for found in done)
    assert counts(scheduler, *OF_JOBS) == dict.fromkeys(OF_JOBS, 0)


def test_events_go_by_age_but_never_the_newest(scheduler: Scheduler, clock: Clock) -> None:
    def tell(count: int) -> None:
        with scheduler.database.write() as conn:
            for _ in range(count):
                eventlog.append(conn, "a", "job_a", clock.seconds)

    tell(3)
    clock.advance(DAY)
    tell(2)
    clock.advance(KEPT - DAY + 1)
    assert scheduler.pruner.run_once() == Pruned(events=3)
    assert [event.position for event in scheduler.events.read()] == [4, 5]
    clock.advance(KEPT)
    assert scheduler.pruner.run_once() == Pruned(events=1)
    assert scheduler.pruner.run_once() == NOTHING
    tell(1)
    assert [event.position for event in scheduler.events.read()] == [5, 6]


def test_many_old_events_go_in_batches(scheduler: Scheduler, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 3 * eventlog.AT_ONCE + 10
    insert = """
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :count)
        INSERT INTO events (position, at, type, subject, data) SELECT n, n, 'a', 'job_a', '{}' FROM n
        """
    with scheduler.database.write() as conn:
        conn.execute(text(insert), {"count": count})
    monkeypatch.setattr(pruning, "_BATCHES", 2)

    assert [done.events for done in run_until_done(scheduler.pruner)] == [2 * eventlog.AT_ONCE, eventlog.AT_ONCE + 9]
    assert scheduler.events.last() == count
