"""Who is woken by what: workers when there may be work, watchers when their job has changed."""

from collections.abc import Callable

import pytest

from scheduler.service import Scheduler
from scheduler.wakeup import CHANGES, DISPATCH, JOBS_WAITING, job_topic
from tests.support.fleet import ERROR, HALF_WAY, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu

JOB = "job_1"
Call = Callable[[Scheduler, RegisteredGpu], object]


def submit(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    scheduler.queue.submit(new_job(id=JOB))


def claim(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    gpu.must_claim()


# The calls before, the call that wakes, whether workers are woken, and whether watchers of the job are.
CASES: dict[str, tuple[list[Call], Call, bool, bool]] = {
    "submit": ([], submit, True, False),
    "claim": ([submit], claim, False, True),
    "cancel": ([submit], lambda s, gpu: s.queue.cancel(JOB), True, True),
    "report": ([submit], lambda s, gpu: s.leases.report(gpu.must_claim(), HALF_WAY), False, True),
    "succeed": ([submit], lambda s, gpu: s.leases.succeed(gpu.must_claim(), RESULT, MEASURED), True, True),
    "fail": ([submit], lambda s, gpu: s.leases.fail(gpu.must_claim(), ERROR), True, True),
    "retry": ([submit], lambda s, gpu: s.leases.retry(gpu.must_claim(), ERROR), True, True),
    "release": ([submit], lambda s, gpu: s.leases.release(gpu.must_claim()), True, True),
    "cancelled": ([submit], lambda s, gpu: s.leases.cancelled(gpu.must_claim()), True, True),
    "worker gone": ([submit, claim], lambda s, gpu: s.fleet.worker_gone(gpu.workers[0]), True, True),
    "worker ready": ([submit], lambda s, gpu: gpu.add_worker(), True, False),
    "drain": ([submit], lambda s, gpu: s.fleet.drain("GPU-0", "maintenance", "alice"), True, False),
    "resume": ([submit], lambda s, gpu: s.fleet.resume("GPU-0", "alice"), True, False),
}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", CASES)
def test_who_is_woken(scheduler: Scheduler, name: str) -> None:
    before, act, workers, watchers = CASES[name]
    gpu = register_gpu(scheduler)
    for each in before:
        each(scheduler, gpu)
    with scheduler.wakeup.listen(DISPATCH) as at_work, scheduler.wakeup.listen(CHANGES) as watching:
        act(scheduler, gpu)

        assert at_work.wait(0) == ({JOBS_WAITING} if workers else set())
        assert watching.wait(0) == ({job_topic(JOB)} if watchers else set())
