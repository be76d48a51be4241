"""What a job tells its caller beside its state."""

from scheduler.records import Notice
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from scheduler.store import notices
from tests.support.databases import Clock
from tests.support.fleet import MEASURED, RESULT, new_job, register_gpu


def test_a_notice_is_seen_and_waited_for(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    job = scheduler.queue.submit(new_job()).job
    assert job.notices == ()
    lease = gpu.must_claim()
    before = scheduler.queue.get(job.id).version

    scheduler.leases.notice(lease, "numerical_guard", "step 7 was made again in bfloat16")

    found = scheduler.queue.get(job.id)
    assert found.notices == (Notice(clock.seconds, "numerical_guard", "step 7 was made again in bfloat16"),)
    assert found.version > before
    assert scheduler.queue.versions([job.id]) == {job.id: found.version}


def test_notices_stay_through_attempts_and_after_the_end(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    job_id = scheduler.queue.submit(new_job()).job.id
    for number in range(2):
        lease = gpu.must_claim()
        scheduler.leases.notice(lease, "note", f"attempt {number}")
        clock.advance(1)
        scheduler.leases.release(lease)
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)

    job = scheduler.queue.get(job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert [(notice.at, notice.message) for notice in job.notices] == [
        (clock.seconds - 2, "attempt 0"),
        (clock.seconds - 1, "attempt 1"),
    ]


def test_the_last_twenty_are_kept_and_each_is_short(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    lease = gpu.must_claim()
    for number in range(25):
        scheduler.leases.notice(lease, "note", f"{number} " + "x" * 2000)

    kept = scheduler.queue.get(lease.job_id).notices
    assert len(kept) == notices.KEPT == 20
    assert [notice.message.split()[0] for notice in kept] == [str(number) for number in range(5, 25)]
    assert {len(notice.message) for notice in kept} == {500}


def test_jobs_are_listed_with_their_notices(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    scheduler.leases.notice(gpu.must_claim(), "note", "something")
    scheduler.queue.submit(new_job())

    newest, oldest = scheduler.queue.list_jobs()
    assert (len(newest.notices), len(oldest.notices)) == (0, 1)
