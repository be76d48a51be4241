"""Places in the line: exact where they are counted, near where they are estimated, and the order of claims."""

import random
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from scheduler.explain import QueueInfo
from scheduler.line import EXACT_PLACES, RUNG_STEP
from scheduler.policy import Policy
from scheduler.records import NewJob
from scheduler.service import Scheduler
from tests.support.databases import Clock
from tests.support.fleet import ERROR, MODEL, RegisteredGpu, new_job, register_gpu


@pytest.fixture
def policy() -> Policy:
    return Policy(max_queued=2000)


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


def submit(scheduler: Scheduler, jobs: Sequence[NewJob]) -> None:
    for answer in scheduler.queue.submit_many(jobs):
        assert not isinstance(answer, Exception), answer


def told(scheduler: Scheduler, ids: Sequence[str]) -> list[QueueInfo]:
    """What is told of each job when asked for one by one; together they must be told the same."""
    jobs = [scheduler.queue.get(job_id) for job_id in ids]
    one_by_one = [info for job in jobs if (info := scheduler.queue.explain(job))]
    together = [info for info in scheduler.queue.explain_all(jobs) if info]
    assert [place(info) for info in together] == [place(info) for info in one_by_one]
    assert [info.eta_seconds for info in together] == pytest.approx([info.eta_seconds for info in one_by_one])
    return one_by_one


def place(info: QueueInfo) -> tuple[int, bool, str]:
    return info.position, info.position_exact, info.wait.message


def positions(scheduler: Scheduler, ids: Sequence[str]) -> list[int]:
    found = told(scheduler, ids)
    assert all(info.position_exact for info in found)
    return [info.position for info in found]


def test_places_are_the_order_of_claims(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    """Of jobs with few different weights, so that many ranks are equal; another model's have a line of their own."""
    register_gpu(scheduler, "GPU-1", model="other")
    dice = random.Random(5)  # noqa: S311  not a secret
    jobs = [
        new_job(
            id=f"job_{number:02d}",
            model="other" if number % 5 == 0 else MODEL.id,
            priority=dice.choice([1.0, 1.0, 1.5]),
            num_inference_steps=dice.choice([20, 50]),
        )
        for number in range(60)
    ]
    for start in range(0, 60, 12):
        submit(scheduler, jobs[start : start + 12])
        clock.advance(60)
    waiting = [job.id for job in jobs if job.model == MODEL.id]

    in_order = [job_id for _, job_id in sorted(zip(positions(scheduler, waiting), waiting, strict=True))]

    assert sorted(positions(scheduler, waiting)) == list(range(1, 49))
    claimed = []
    for _ in waiting:
        lease = gpu.must_claim()
        claimed.append(lease.job_id)
        scheduler.leases.fail(lease, ERROR)
    assert claimed == in_order


def test_jobs_that_are_not_to_run_yet_come_last_by_their_time(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    later = {"job_1": 30.0, "job_2": 10.0, "job_3": 20.0, "job_4": 20.0}
    submit(scheduler, [new_job(id=name, not_before=clock.seconds + wait, priority=9.0) for name, wait in later.items()])
    submit(scheduler, [new_job(id="job_5"), new_job(id="job_6", priority=0.5)])
    ids = [f"job_{number}" for number in range(1, 7)]

    assert positions(scheduler, ids) == [6, 3, 4, 5, 1, 2]
    etas = [info.eta_seconds for info in told(scheduler, ids)[:4]]
    seconds = scheduler.queue.get("job_3").footprint.seconds
    assert etas == [30.0, 10.0, 20.0, pytest.approx(20.0 + seconds)], "they go by their rank, two of them together"

    clock.advance(10)
    assert positions(scheduler, ids) == [6, 1, 4, 5, 2, 3], "its time has come, also before a claim has noticed"
    assert gpu.must_claim().job_id == "job_2"


def test_a_thousand_places_are_counted_and_those_behind_them_estimated(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    ids = [f"job_{number:04d}" for number in range(1, 1301)]  # equal ranks: the ids decide
    submit(scheduler, [new_job(id=job_id) for job_id in ids])
    seconds = scheduler.queue.get(ids[0]).footprint.seconds

    near = [1, 2, 64, 65, 66, 500, 999, 1000]
    assert positions(scheduler, [ids[number - 1] for number in near]) == near
    far = [1001, 1100, 1300]
    for number, info in zip(far, told(scheduler, [ids[number - 1] for number in far]), strict=True):
        assert not info.position_exact
        assert info.position > EXACT_PLACES
        assert abs(info.position - number) <= RUNG_STEP
        assert info.eta_seconds == pytest.approx((number - 1) * seconds, rel=0.25)
    waits = [info.eta_seconds or 0.0 for info in told(scheduler, ids[::13])]
    assert waits == sorted(waits)

    with scheduler.database.write() as conn:
        gone = "UPDATE job_states SET status = 'cancelled', finished_at = 1.0 WHERE job_id <= 'job_0400'"
        conn.execute(text(gone))

    assert positions(scheduler, [ids[1099], ids[1299]]) == [700, 900], "whatever was read before"
