"""Results that expire: when, how their files go, and that the job itself stays."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scheduler import pruner as pruning
from scheduler.errors import NotFound, StoreUnreachable
from scheduler.policy import Policy
from scheduler.pruner import Pruned
from scheduler.records import Result
from scheduler.service import Scheduler
from scheduler.settings import StoreSettings
from scheduler.states import JobStatus
from scheduler.store import schema as s
from tests.support.databases import Clock
from tests.support.fleet import MEASURED, RESULT, RegisteredGpu, new_job, register_gpu
from tests.support.query_plans import query_plan

DAY = 86_400.0


@pytest.fixture(autouse=True)
def breathless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_BREATH_SECONDS", 0.0)


@pytest.fixture
def policy() -> Policy:
    return Policy(result_seconds=DAY, lease_seconds=10 * DAY, worker_ttl_seconds=100 * DAY)


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


@pytest.fixture
def succeeded(scheduler: Scheduler, gpu: RegisteredGpu, make_file: Callable[[bytes], Path]) -> Callable[..., str]:
    """Return a function that makes a job that has succeeded now, with its files."""

    def make(**changes: object) -> str:
        job_id = scheduler.queue.submit(new_job(**changes)).job.id
        for name in ("input.png", "1/video.mp4", "1/thumbnail.jpg", "1/preview.webp"):
            scheduler.blobs.put_file(f"jobs/{job_id}/{name}", make_file(b"x"))
        scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)
        return job_id

    return make


def result(scheduler: Scheduler, job_id: str) -> Result:
    found = scheduler.queue.get(job_id).result
    assert found is not None
    return found


def test_a_result_expires_after_the_policys_time_or_the_jobs_own(
    scheduler: Scheduler, succeeded: Callable[..., str], clock: Clock
) -> None:
    started = clock.seconds
    by_policy = succeeded()
    by_itself = succeeded(result_ttl_seconds=60.0)
    assert result(scheduler, by_policy).expires_at == started + DAY
    assert result(scheduler, by_itself).expires_at == started + 60


@pytest.mark.parametrize("policy", [Policy()])
def test_by_default_a_result_stays_as_long_as_its_job(
    scheduler: Scheduler, succeeded: Callable[..., str], clock: Clock
) -> None:
    for_ever, by_itself = succeeded(), succeeded(result_ttl_seconds=3600.0)
    assert (result(scheduler, for_ever).expires_at, result(scheduler, for_ever).expired) == (None, False)
    assert result(scheduler, by_itself).expires_at == clock.seconds + 3600
    clock.advance(80 * DAY)
    assert scheduler.pruner.run_once().results == 1
    assert not scheduler.queue.has_expired(result(scheduler, for_ever))


def test_only_the_files_of_expired_results_go(
    scheduler: Scheduler, succeeded: Callable[..., str], clock: Clock
) -> None:
    old = succeeded()
    clock.advance(1)
    young = succeeded()
    clock.advance(DAY - 1)
    assert scheduler.pruner.run_once().results == 0
    clock.advance(0.5)
    before = scheduler.queue.get(old)

    assert scheduler.pruner.run_once() == Pruned(results=1)

    assert old not in scheduler.blobs.folders("jobs")
    assert scheduler.blobs.size(f"jobs/{young}/1/video.mp4") == 1
    job = scheduler.queue.get(old)
    assert (job.status, job.result and job.result.expired) == (JobStatus.SUCCEEDED, True)
    assert job.version > before.version, "who has seen it before can tell"
    assert [event.type for event in scheduler.events.read(subject=old)][-1] == "job.result_expired"
    assert not result(scheduler, young).expired
    assert scheduler.pruner.run_once() == Pruned()


def test_a_result_has_expired_before_its_files_are_gone(
    scheduler: Scheduler, succeeded: Callable[..., str], clock: Clock
) -> None:
    job_id = succeeded()
    clock.advance(DAY - 1)
    assert not scheduler.queue.has_expired(result(scheduler, job_id))
    clock.advance(1)
    assert scheduler.queue.has_expired(result(scheduler, job_id))
    clock.advance(1)
    scheduler.pruner.run_once()
    assert scheduler.queue.has_expired(result(scheduler, job_id))


def test_files_that_cannot_be_deleted_hold_up_no_others(
    scheduler: Scheduler, succeeded: Callable[..., str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = succeeded(), succeeded()
    delete_prefix = scheduler.blobs.delete_prefix

    def failing(prefix: str) -> int:
        if prefix.endswith(stuck):
            raise StoreUnreachable("the blob store cannot be used: Permission denied")
        return delete_prefix(prefix)

    clock.advance(DAY + 1)
    with monkeypatch.context() as patch:
        patch.setattr(scheduler.blobs, "delete_prefix", failing)
        done = scheduler.pruner.run_once()
        assert (done.results, done.stuck_jobs) == (1, 1)
        assert done.problem == "the blob store cannot be used: Permission denied"
    assert (result(scheduler, stuck).expired, result(scheduler, other).expired) == (False, True)

    assert scheduler.pruner.run_once() == Pruned(results=1)


def test_an_expired_job_goes_when_its_own_time_comes(
    scheduler: Scheduler, succeeded: Callable[..., str], clock: Clock
) -> None:
    job_id = succeeded()
    clock.advance(DAY + 1)
    scheduler.pruner.run_once()
    clock.advance(90 * DAY)
    assert scheduler.pruner.run_once().jobs == 1
    with pytest.raises(NotFound):
        scheduler.queue.get(job_id)


def test_two_pruners_record_it_once(
    scheduler: Scheduler, succeeded: Callable[..., str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = succeeded()
    clock.advance(DAY + 1)
    delete_prefix = scheduler.blobs.delete_prefix
    other = type(scheduler.pruner)(scheduler.database, scheduler.blobs, Policy())

    def meanwhile(prefix: str) -> int:
        monkeypatch.setattr(scheduler.blobs, "delete_prefix", delete_prefix)
        assert other.run_once().results == 1
        return delete_prefix(prefix)

    monkeypatch.setattr(scheduler.blobs, "delete_prefix", meanwhile)

    assert scheduler.pruner.run_once().results == 0
    assert [event.type for event in scheduler.events.read(subject=job_id)].count("job.result_expired") == 1


def test_what_expires_is_found_along_its_index(scheduler: Scheduler, clock: Clock) -> None:
    results = s.results.c
    only = (results.expired_at.is_(None), results.expires_at.is_not(None))
    line = pruning.Line(results.expires_at, results.job_id, *only)
    assert "ix_results_expiring" in "\n".join(query_plan(scheduler, line.batch(clock.seconds)))


def test_the_setting_is_in_days(tmp_path: Path) -> None:
    assert StoreSettings(data_dir=tmp_path, result_days=1.5).policy().result_seconds == 1.5 * DAY
    assert StoreSettings(data_dir=tmp_path).policy().result_seconds is None
