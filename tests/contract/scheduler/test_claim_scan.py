"""What a claim looks at: the heads of the classes, models to load, jobs not to run yet; and what it passes over."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text, update

from scheduler import ids
from scheduler.plans import GPU_PLANS
from scheduler.records import Lease, ServedModel, Worker
from scheduler.service import Scheduler
from scheduler.store import claims
from scheduler.store import schema as s
from scheduler.store.claims import Line
from scheduler.store.database import Database
from scheduler.wakeup import DISPATCH
from tests.contract.scheduler.test_order import run_all
from tests.support.databases import Clock, FreshDatabase
from tests.support.fleet import GIB, MODEL, RegisteredGpu, demand_bytes, new_job, open_scheduler, register_gpu

OTHER = ServedModel("other/i2vgen-xl", "i2vgen-xl", weights_bytes=2 * MODEL.weights_bytes, fingerprint="e" * 64)


def submit(scheduler: Scheduler, **changes: object) -> str:
    return scheduler.queue.submit(new_job(**changes)).job.id


def test_a_job_is_not_claimed_before_its_time(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    later = submit(scheduler, not_before=clock.seconds + 60, priority=50.0)
    assert gpu.claim() is None
    now = submit(scheduler)
    clock.advance(59.9)
    assert run_all(gpu) == [now]

    clock.advance(0.1)

    assert run_all(gpu) == [later]


def test_a_time_that_has_passed_means_now(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    job = scheduler.queue.submit(new_job(not_before=clock.seconds - 1)).job

    assert (job.not_before, job.ready_at) == (0.0, clock.seconds)
    assert gpu.must_claim().job_id == job.id


def test_more_jobs_than_one_claim_promotes_come_due_together(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    answers = scheduler.queue.submit_many([new_job(not_before=clock.seconds + 5) for _ in range(130)])
    clock.advance(5)

    assert sorted(run_all(gpu)) == sorted(one.job.id for one in answers if not isinstance(one, Exception))


def test_waiting_counts_from_when_a_job_was_to_run(scheduler: Scheduler, clock: Clock) -> None:
    """Or it would have aged before its time, and overtake what was there."""
    gpu = register_gpu(scheduler)
    deferred = submit(scheduler, not_before=clock.seconds + 1000)
    clock.advance(999)
    earlier = submit(scheduler)
    clock.advance(1)

    assert run_all(gpu) == [earlier, deferred]


def test_a_condemned_worker_gets_no_job(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler, workers=2)
    submit(scheduler)
    with scheduler.database.write() as conn:
        conn.execute(update(s.workers).where(s.workers.c.id == gpu.workers[0]).values(condemned="it hangs"))

    assert gpu.claim(worker=0) is None
    assert gpu.claim(worker=1) is not None


def loading_worker(scheduler: Scheduler, gpu: RegisteredGpu, resident_bytes: int) -> str:
    """A worker of the GPU's model that would load the other one."""
    scheduler.fleet.register(OTHER, [])
    worker_id = ids.new_id("worker")
    scheduler.fleet.register_worker(
        Worker(worker_id, gpu.info.id, 4711, MODEL.id, resident_bytes, ready=True, can_load=(OTHER.id,))
    )
    return worker_id


def claim_as(scheduler: Scheduler, gpu: RegisteredGpu, worker_id: str) -> Lease | None:
    return scheduler.queue.claim(worker_id, gpu.info.id, gpu.info.total_bytes)


def test_a_worker_takes_the_best_job_of_the_models_it_can_run(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler, workers=0)
    worker = loading_worker(scheduler, gpu, 6 * GIB)
    own, other = submit(scheduler), submit(scheduler, model=OTHER.id, priority=9.0)

    first, second = claim_as(scheduler, gpu, worker), claim_as(scheduler, gpu, worker)

    assert first is not None
    assert second is not None
    assert [(first.job_id, first.model), (second.job_id, second.model)] == [(other, OTHER.id), (own, MODEL.id)]


def test_a_larger_model_reserves_what_it_needs_beyond_the_one_it_replaces(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler, workers=0)
    worker = loading_worker(scheduler, gpu, 6 * GIB)
    job = scheduler.queue.submit(new_job(model=OTHER.id)).job

    lease = claim_as(scheduler, gpu, worker)

    assert lease is not None
    assert job.footprint.model_bytes > 6 * GIB
    assert lease.reserved_bytes == demand_bytes(job) + job.footprint.model_bytes - 6 * GIB


def test_a_model_that_would_not_fit_is_not_loaded(scheduler: Scheduler) -> None:
    register_gpu(scheduler, "GPU-LARGE", workers=0, total_bytes=80 * GIB, model=OTHER.id)
    other = scheduler.queue.submit(new_job(model=OTHER.id)).job
    gpu = register_gpu(scheduler, workers=0, total_bytes=GIB + 6 * GIB + demand_bytes(other))
    worker = loading_worker(scheduler, gpu, 6 * GIB)
    assert claim_as(scheduler, gpu, worker) is None
    own = submit(scheduler)

    lease = claim_as(scheduler, gpu, worker)

    assert lease is not None
    assert lease.job_id == own


@pytest.fixture
def other_claims(engine: str, database_url: str) -> psycopg.Connection:
    """A transaction in which other claims lock what they are about to take."""
    if engine == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    url = make_url(database_url)
    return psycopg.connect(host=str(url.query["host"]), user="postgres", dbname=url.database)


def test_claims_do_not_wait_for_each_other(scheduler: Scheduler, other_claims: psycopg.Connection) -> None:
    """While others hold the best jobs and another GPU, a claim takes the next one at once."""
    gpu = register_gpu(scheduler)
    register_gpu(scheduler, "GPU-1")
    jobs = [submit(scheduler, priority=float(9 - number)) for number in range(8)]
    with other_claims:
        other_claims.execute("SELECT 1 FROM gpus WHERE id = 'GPU-1' FOR UPDATE")
        other_claims.execute("SELECT 1 FROM job_states WHERE job_id = ANY(%s) FOR UPDATE", [jobs[:3]])

        with scheduler.database.write() as conn:  # were anything waited for, it would end here and now
            conn.execute(text("ALTER ROLE CURRENT_USER SET lock_timeout = '1ms'"))
        fresh = Database(str(scheduler.database.url.render_as_string(hide_password=False)))
        try:
            scheduler.queue._claims._database = fresh
            assert gpu.must_claim().job_id == jobs[4]  # past heads that are taken it goes 0, 1, 2, 4
        finally:
            fresh.close()
            with scheduler.database.write() as conn:
                conn.execute(text("ALTER ROLE CURRENT_USER RESET lock_timeout"))


@pytest.fixture
def new_scheduler(fresh_database: FreshDatabase, data_dir: Path, clock: Clock) -> Iterator[Scheduler]:
    """The scheduler on a database that nobody has used before."""
    with fresh_database() as url, open_scheduler(url, data_dir) as opened:
        yield opened


@pytest.mark.parametrize("stale", [False, True], ids=["no statistics", "statistics of one job"])
def test_every_scan_seeks_in_the_claim_index(new_scheduler: Scheduler, engine: str, *, stale: bool) -> None:
    """While the statistics say nothing at all, as after a first flood of jobs, or what was so long ago."""
    scheduler = new_scheduler
    register_gpu(scheduler)
    if stale:
        submit(scheduler)
        with scheduler.database.write() as conn:
            conn.execute(text("ANALYZE"))
    for _ in range(8):
        scheduler.queue.submit_many([new_job(width=256 + 64 * (number % 8)) for number in range(250)])
    lines = [Line(MODEL.id, plan, above=0, largest=999) for plan in GPU_PLANS]
    values = claims.parameters(lines, 2, window_open=True) | {"depth": 0, "deep": 8}
    with scheduler.database.trip() as trip:
        for scan in (claims.best, claims.best_in_time, claims.blocked):
            sql = scan(len(lines))[-1].sql(engine, trip.clock)
            explain = "EXPLAIN QUERY PLAN " if engine == "sqlite" else "EXPLAIN "
            cursor = trip.cursor()
            cursor.execute(explain + sql, values | {"within_seconds": 9.0})
            plan = "\n".join(str(tuple(row)) for row in cursor.fetchall())

            assert "ix_job_states_claim" in plan
            assert "ix_job_states_line" not in plan
            assert "ix_job_states_status" not in plan
            assert "Seq Scan on job_states" not in plan
            assert "SCAN job_states" not in plan


def test_a_wakeup_follows_the_commit(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    with scheduler.wakeup.listen(DISPATCH) as listener:
        listener.wait(0)
        submit(scheduler)
        assert listener.wait(10)
    assert gpu.claim() is not None
