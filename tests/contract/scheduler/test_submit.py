"""Submit, look and list: what a caller sees of the queue."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from scheduler.errors import IdempotencyMismatch, InvalidState, NoModel, NotFound, QueueFull, Unschedulable
from scheduler.policy import Policy
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from tests.support.databases import Clock
from tests.support.fleet import GIB, MEASURED, MODEL, RESULT, new_job, register_gpu


@pytest.fixture
def policy() -> Policy:
    return Policy(max_queued=3)


def test_a_submitted_job_is_returned_whole(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    new = new_job(metadata={"shot": "12", "ü": "🎬"}, priority=2.5, negative_prompt="blur", tenant="studio")

    submitted = scheduler.queue.submit(new)

    job = scheduler.queue.get(new.id)
    assert submitted.created
    assert submitted.job == job
    assert (job.id, job.model, job.prompt, job.params) == (new.id, new.model, new.prompt, new.params)
    assert (job.tenant, job.metadata, job.priority, job.image_key) == ("studio", new.metadata, 2.5, new.image_key)
    assert job.status is JobStatus.QUEUED
    assert (job.attempts, job.max_attempts, job.cancel_requested) == (0, 3, False)
    assert job.created_at == clock.seconds
    assert (job.progress, job.gpu_id, job.measured, job.error, job.result) == (None, None, None, None, None)
    assert (job.started_at, job.finished_at) == (None, None)
    gib = job.footprint.vram_bytes / GIB
    assert job.weight == pytest.approx(job.footprint.seconds / gib * 2.5)


def test_an_unknown_job_is_not_found(scheduler: Scheduler) -> None:
    for look in (scheduler.queue.get, scheduler.queue.cancel, scheduler.queue.delete):
        with pytest.raises(NotFound, match="job_none"):
            look("job_none")
    assert scheduler.queue.attempts("job_none") == []


def test_a_list_is_newest_first_and_pages_by_id(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    ids = [f"job_{number:026}" for number in range(3)]
    for job_id in ids:
        scheduler.queue.submit(new_job(id=job_id))
    scheduler.queue.cancel(ids[1])

    first = scheduler.queue.list_jobs(limit=2)
    rest = scheduler.queue.list_jobs(limit=2, before_id=first[-1].id)

    assert [job.id for job in first] == [ids[2], ids[1]]
    assert [job.id for job in rest] == [ids[0]]
    assert [job.id for job in scheduler.queue.list_jobs(statuses=[JobStatus.CANCELLED])] == [ids[1]]
    assert [job.id for job in scheduler.queue.list_jobs(statuses=[JobStatus.QUEUED])] == [ids[2], ids[0]]
    assert scheduler.queue.list_jobs(statuses=[JobStatus.RUNNING]) == []


def test_without_a_gpu_that_serves_the_model_nothing_is_accepted(scheduler: Scheduler) -> None:
    with pytest.raises(NoModel):
        scheduler.queue.models()
    with pytest.raises(NoModel, match="no GPU serves"):
        scheduler.queue.submit(new_job())
    register_gpu(scheduler)
    with pytest.raises(NoModel, match="no GPU serves other"):
        scheduler.queue.submit(new_job(model="other"))
    with pytest.raises(NoModel, match="no GPU serves other"):
        scheduler.queue.quote("other", new_job().params)
    assert scheduler.queue.list_jobs() == []


def test_the_newest_model_comes_first(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    clock.advance(1)
    register_gpu(scheduler, "GPU-1", model="newer")

    assert list(scheduler.queue.models().items()) == [("newer", replace(MODEL, id="newer")), (MODEL.id, MODEL)]


def test_a_job_that_no_gpu_could_hold_is_refused_with_the_sizes(scheduler: Scheduler) -> None:
    register_gpu(scheduler)

    with pytest.raises(Unschedulable) as refused:
        scheduler.queue.submit(new_job(width=1536, height=1536, num_frames=64))

    message = str(refused.value)
    need = scheduler.queue.quote(MODEL.id, new_job(width=1536, height=1536, num_frames=64).params)[0].footprint
    assert f"needs {need.vram_bytes / GIB:.2f} GiB" in message
    assert "NVIDIA GeForce RTX 3090, offers 23.00 GiB, 17.00 GiB of it beside the resident model" in message
    assert scheduler.queue.list_jobs() == []


def test_a_gpu_that_left_long_ago_does_not_count(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler)
    clock.advance(Policy().gpu_memory_seconds)
    assert scheduler.queue.submit(new_job()).created  # gone, but it may come back
    clock.advance(1)
    with pytest.raises(NoModel):
        scheduler.queue.submit(new_job())


def test_a_full_queue_refuses_and_says_when_to_come_back(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    jobs = [scheduler.queue.submit(new_job()).job for _ in range(3)]

    with pytest.raises(QueueFull, match="3 jobs are waiting") as refused:
        scheduler.queue.submit(new_job())

    assert refused.value.retry_after_seconds == pytest.approx(jobs[0].footprint.seconds)
    assert len(scheduler.queue.list_jobs()) == 3
    gpu.must_claim()  # a running job does not wait
    assert scheduler.queue.submit(new_job()).created


def test_the_same_key_and_payload_give_the_same_job(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    first = new_job(idempotency_key="k", payload_sha256="a")
    scheduler.queue.submit(first)

    again = scheduler.queue.submit(new_job(idempotency_key="k", payload_sha256="a"))

    assert not again.created
    assert again.job.id == first.id
    assert len(scheduler.queue.list_jobs()) == 1


def test_the_same_key_with_another_payload_is_refused(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    scheduler.queue.submit(new_job(idempotency_key="k", payload_sha256="a"))

    with pytest.raises(IdempotencyMismatch):
        scheduler.queue.submit(new_job(idempotency_key="k", payload_sha256="b"))

    assert len(scheduler.queue.list_jobs()) == 1
    assert scheduler.queue.submit(new_job(idempotency_key="k", payload_sha256="b", tenant="other")).created


def test_a_known_key_is_answered_even_when_the_queue_is_full(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    first = scheduler.queue.submit(new_job(idempotency_key="k", payload_sha256="a"))
    for _ in range(2):
        scheduler.queue.submit(new_job())

    assert scheduler.queue.submit(new_job(idempotency_key="k", payload_sha256="a")).job == first.job


def test_one_key_from_many_threads_makes_one_job(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    together = Barrier(8)

    def submit(_: int) -> tuple[str, bool]:
        new = new_job(idempotency_key="k", payload_sha256="a")
        together.wait()
        submitted = scheduler.queue.submit(new)
        return submitted.job.id, submitted.created

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(submit, range(8)))

    assert len({job_id for job_id, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1
    assert len(scheduler.queue.list_jobs()) == 1


def test_versions_grow_with_every_change(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    job_id = scheduler.queue.submit(new_job()).job.id
    other = scheduler.queue.submit(new_job(priority=0.5)).job.id

    def version() -> tuple[int, int]:
        found = scheduler.queue.versions([job_id, "job_none"])
        assert list(found) == [job_id]
        assert found[job_id] == scheduler.queue.get(job_id).version
        return found[job_id]

    seen = [version()]
    lease = gpu.must_claim()
    assert lease.job_id == job_id
    seen.append(version())
    scheduler.leases.release(lease)
    seen.append(version())
    lease = gpu.must_claim()
    seen.append(version())
    scheduler.queue.cancel(job_id)
    seen.append(version())
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    seen.append(version())

    assert seen == sorted(set(seen)), "no version may come twice or go back"
    assert set(scheduler.queue.versions([job_id, other])) == {job_id, other}
    assert scheduler.queue.versions([]) == {}


def test_only_an_ended_job_can_be_deleted_and_only_what_it_has_cost_stays(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    new = new_job(idempotency_key="k", payload_sha256="a")
    scheduler.queue.submit(new)
    with pytest.raises(InvalidState, match="is queued: cancel it first"):
        scheduler.queue.delete(new.id)
    lease = gpu.must_claim()
    with pytest.raises(InvalidState, match="is running"):
        scheduler.queue.delete(new.id)
    scheduler.leases.succeed(lease, RESULT, MEASURED)

    deleted = scheduler.queue.delete(new.id)

    assert deleted.result == RESULT
    with pytest.raises(NotFound):
        scheduler.queue.get(new.id)
    assert [attempt.measured for attempt in scheduler.queue.attempts(new.id)] == [MEASURED]
    assert scheduler.queue.versions([new.id]) == {}
    with scheduler.database.read() as conn:
        for table in ("jobs", "job_states", "results", "leases", "idempotency_keys"):
            assert conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 0, table  # noqa: S608  fixed names
    assert scheduler.queue.submit(new_job(idempotency_key="k", payload_sha256="b")).created
