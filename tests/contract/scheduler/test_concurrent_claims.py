"""Many workers at once: no job twice, no byte twice, and no transaction in another's way."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from scheduler.errors import LeaseLost
from scheduler.records import Lease
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from tests.support.databases import Clock
from tests.support.fleet import GIB, MEASURED, RESULT, demand_bytes, new_job, register_gpu

pytestmark = pytest.mark.usefixtures("fixed_sizes")

THREADS = 8


def test_claims_from_many_threads_promise_each_job_and_each_byte_once(scheduler: Scheduler) -> None:
    jobs = 24
    need = demand_bytes_of_a_job(scheduler)
    gpus = [
        register_gpu(scheduler, f"GPU-{number}", workers=4, resident_bytes=6 * GIB, total_bytes=25 * GIB + 3 * need - 1)
        for number in range(2)
    ]
    for _ in range(jobs):
        scheduler.queue.submit(new_job())
    together = Barrier(THREADS)

    def work(number: int) -> list[Lease]:
        gpu, worker = gpus[number % 2], number // 2
        done: list[Lease] = []
        together.wait()
        misses = 0
        while misses < 200 and len(scheduler.queue.list_jobs(statuses=[JobStatus.QUEUED], limit=1)):
            lease = gpu.claim(worker=worker)
            if lease is None:
                misses += 1
                continue
            assert gpu.free_bytes >= 0, "more promised than there is"
            done.append(lease)
            scheduler.leases.succeed(lease, RESULT, MEASURED)
        return done

    with ThreadPoolExecutor(THREADS) as threads:
        leases = [lease for done in threads.map(work, range(THREADS)) for lease in done]

    assert len(leases) == len({lease.job_id for lease in leases}) == jobs
    assert {job.status for job in scheduler.queue.list_jobs(limit=jobs)} == {JobStatus.SUCCEEDED}


def test_no_more_leases_at_once_than_memory(scheduler: Scheduler) -> None:
    need = demand_bytes_of_a_job(scheduler)
    total = GIB + THREADS * 6 * GIB + 3 * need
    gpu = register_gpu(scheduler, workers=THREADS, resident_bytes=6 * GIB, total_bytes=total)
    for _ in range(THREADS):
        scheduler.queue.submit(new_job())
    together = Barrier(THREADS)

    def claim(worker: int) -> Lease | None:
        together.wait()
        return gpu.claim(worker=worker)

    with ThreadPoolExecutor(THREADS) as threads:
        leases = [lease for lease in threads.map(claim, range(THREADS)) if lease]

    assert len({lease.job_id for lease in leases}) == len(leases) == 3
    assert gpu.free_bytes == 0


def test_a_job_ends_once_when_its_worker_and_the_reaper_meet(scheduler: Scheduler, clock: Clock) -> None:
    """Both want the same two rows; on PostgreSQL they must lock them in one order."""
    for _ in range(20):
        gpu = register_gpu(scheduler)
        scheduler.queue.submit(new_job())
        lease = gpu.must_claim()
        together = Barrier(2)

        def succeed(lease: Lease = lease, together: Barrier = together) -> bool:
            together.wait()
            try:
                scheduler.leases.succeed(lease, RESULT, MEASURED)
            except LeaseLost:
                return False
            return True

        def expire(lease: Lease = lease, together: Barrier = together) -> list[str]:
            together.wait()
            return scheduler.fleet.worker_gone(lease.worker_id)

        with ThreadPoolExecutor(2) as threads:
            success, expiry = threads.submit(succeed), threads.submit(expire)
            assert success.result() is (expiry.result() == [])
        job = scheduler.queue.get(lease.job_id)
        assert job.status is (JobStatus.SUCCEEDED if success.result() else JobStatus.QUEUED)
        scheduler.queue.cancel(lease.job_id)


def test_a_cancel_is_never_lost_to_a_release(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler)
    for _ in range(20):
        job_id = scheduler.queue.submit(new_job()).job.id
        lease = gpu.must_claim()
        together = Barrier(2)

        def release(lease: Lease = lease, together: Barrier = together) -> None:
            together.wait()
            scheduler.leases.release(lease)

        def cancel(job_id: str = job_id, together: Barrier = together) -> None:
            together.wait()
            scheduler.queue.cancel(job_id)

        with ThreadPoolExecutor(2) as threads:
            for each in [threads.submit(release), threads.submit(cancel)]:
                each.result()
        assert scheduler.queue.get(job_id).status is JobStatus.CANCELLED


def demand_bytes_of_a_job(scheduler: Scheduler) -> int:
    """Return the demand of `new_job()`, and leave the queue empty."""
    register_gpu(scheduler, "GPU-measure", workers=0)
    job = scheduler.queue.submit(new_job()).job
    scheduler.queue.cancel(job.id)
    scheduler.queue.delete(job.id)
    return demand_bytes(job)
