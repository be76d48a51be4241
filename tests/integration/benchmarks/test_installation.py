"""An installation's past, made at once, is one that the service itself could have had."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.installation.__main__ import main
from benchmarks.installation.filling import fill
from scheduler.prices import UNPRICED
from scheduler.service import Scheduler
from scheduler.states import JobStatus, Outcome
from scheduler.store import reads
from scheduler.store.database import Database, sqlite_url
from scheduler.store.reads import Wanted
from tests.support.databases import data_dir, database_url, engine, fresh_database, postgres_server, sqlite_template
from tests.support.fleet import open_scheduler

__all__ = ["data_dir", "database_url", "engine", "fresh_database", "postgres_server", "sqlite_template"]

JOBS, GPUS = 120, 4


@pytest.fixture
def scheduler(database_url: str, data_dir: Path) -> Iterator[Scheduler]:
    with open_scheduler(database_url, data_dir) as opened:
        fill(opened.database, jobs=JOBS, gpus=GPUS, days=1)
        yield opened


def test_every_job_has_ended_with_its_last_attempt(scheduler: Scheduler) -> None:
    with scheduler.database.read() as conn:
        found = reads.jobs(conn, Wanted(), 2 * JOBS)
        attempts = {job.id: reads.attempts(conn, job.id) for job in found}
    assert len(found) == JOBS
    assert all(job.status.ended for job in found)
    assert [job.id for job in found] == sorted((job.id for job in found), reverse=True)
    for job in found:
        *before, last = attempts[job.id]
        assert all(one.outcome in (Outcome.RETRIED, Outcome.EXPIRED, Outcome.RELEASED) for one in before)
        assert (last.outcome, job.gpu_id) == (Outcome(job.status), last.gpu_id)
        assert job.created_at <= attempts[job.id][0].started_at
        assert job.finished_at == last.ended_at
        assert (job.result is not None) == (job.status is JobStatus.SUCCEEDED)
        assert job.attempts <= job.max_attempts


def test_the_reports_have_something_to_tell(scheduler: Scheduler) -> None:
    bill = scheduler.spending.bill(UNPRICED)
    assert len(bill.gpus) == GPUS
    assert bill.jobs.attempts >= JOBS
    assert bill.busy_seconds == pytest.approx(bill.jobs.gpu_seconds)
    assert 0 < bill.busy_seconds <= bill.online_seconds
    recorded = scheduler.evidence.read(UNPRICED)
    assert len(recorded.evidence.gpus) == GPUS
    assert recorded.evidence.attempts == bill.jobs.attempts


def test_samples_tell_the_same_at_every_step(scheduler: Scheduler) -> None:
    bill = scheduler.spending.bill(UNPRICED)
    for gpu in bill.gpus:
        points = scheduler.samples.series(gpu.gpu_id, bill.window[1] - 86_400.0).points
        assert sum(point.busy_seconds for point in points) == pytest.approx(gpu.busy_seconds, rel=0.01, abs=60)


def test_events_are_in_order_and_nobody_is_told_of_them(scheduler: Scheduler) -> None:
    events = scheduler.events.read(limit=10 * JOBS)
    assert [one.position for one in events] == list(range(1, len(events) + 1))
    assert [one.at for one in events] == sorted(one.at for one in events)
    assert Counter(one.type for one in events)["job.queued"] == JOBS
    assert scheduler.events.last() == len(events)


def test_it_goes_by_its_seed_alone(tmp_path: Path) -> None:
    def made(name: str, seed: int) -> list[tuple[object, ...]]:
        url = sqlite_url(tmp_path / name)
        main(["--url", url, "--jobs", "9", "--gpus", "2", "--days", "1", "--seed", str(seed)])
        database = Database(url)
        try:
            with database.read() as conn:
                found = reads.jobs(conn, Wanted(ascending=True), 20)
        finally:
            database.close()
        return [(job.id[14:], job.tenant, job.params, job.status) for job in found]

    assert made("first.db", 3) == made("again.db", 3) != made("other.db", 4)


def test_only_a_fresh_database_is_filled(scheduler: Scheduler) -> None:
    with pytest.raises(ValueError, match="the database is not fresh"):
        fill(scheduler.database, jobs=1, gpus=1, days=1)
