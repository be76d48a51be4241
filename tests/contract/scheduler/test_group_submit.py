"""Several jobs in one commit: each is answered by itself, whatever becomes of the others."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from scheduler.errors import IdempotencyMismatch, NotFound, QueueFull, StoreUnreachable, Unschedulable
from scheduler.policy import Policy
from scheduler.service import Scheduler
from scheduler.store import reads
from scheduler.store.script import Statement
from scheduler.submitting import Submitted
from tests.support.fleet import new_job, register_gpu


def stored(scheduler: Scheduler) -> set[str]:
    return {job.id for job in scheduler.queue.list_jobs(limit=1000)}


def made(answers: list[Submitted | Exception]) -> set[str]:
    return {answer.job.id for answer in answers if isinstance(answer, Submitted) and answer.created}


def test_each_of_many_jobs_has_its_own_answer(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    good = [new_job() for _ in range(600)]
    huge = new_job(width=1280, height=1280, num_frames=32)
    key = {"idempotency_key": "k", "payload_sha256": "a"}
    first, again, other = new_job(**key), new_job(**key), new_job(**key | {"payload_sha256": "b"})

    answers = scheduler.queue.submit_many([*good[:300], huge, first, again, other, *good[300:]])

    assert [type(answer) for answer in answers[300:304]] == [Unschedulable, Submitted, Submitted, IdempotencyMismatch]
    replay = answers[302]
    assert isinstance(replay, Submitted)
    assert (replay.job.id, replay.created) == (first.id, False)
    assert stored(scheduler) == made(answers) == {first.id, *(job.id for job in good)}


def test_one_job_that_cannot_be_stored_takes_no_other_along(scheduler: Scheduler, engine: str) -> None:
    register_gpu(scheduler)
    bad = new_job(prompt="\ud800" if engine == "sqlite" else "\x00")
    good = [new_job() for _ in range(3)]

    answers = scheduler.queue.submit_many([good[0], bad, *good[1:]])

    assert isinstance(answers[1], Exception)
    assert stored(scheduler) == made(answers) == {job.id for job in good}


def test_a_replay_whose_job_has_gone_spoils_nobody_elses_answer(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_gpu(scheduler)
    key = {"idempotency_key": "k", "payload_sha256": "a"}
    scheduler.queue.submit(new_job(**key))

    def gone(*_: object) -> None:
        raise NotFound("it was deleted")

    monkeypatch.setattr(reads, "job", gone)
    new = new_job()
    answers = scheduler.queue.submit_many([new, new_job(**key)])
    monkeypatch.undo()

    assert made(answers) == {new.id}
    assert isinstance(answers[1], NotFound)
    assert new.id in stored(scheduler)


class TestFull:
    """A queue of three."""

    @pytest.fixture
    def policy(self) -> Policy:
        return Policy(max_queued=3)

    def test_what_is_over_the_limit_is_refused(self, scheduler: Scheduler) -> None:
        register_gpu(scheduler)
        answers = scheduler.queue.submit_many([new_job() for _ in range(5)])

        assert [type(answer) for answer in answers] == [Submitted] * 3 + [QueueFull] * 2
        assert len(stored(scheduler)) == 3

    def test_a_place_that_becomes_free_is_taken(self, scheduler: Scheduler) -> None:
        gpu = register_gpu(scheduler)
        scheduler.queue.submit_many([new_job() for _ in range(4)])
        gpu.must_claim()
        deadline = time.monotonic() + 10
        while True:  # a full queue is not counted again at once
            try:
                scheduler.queue.submit(new_job())
                break
            except QueueFull:
                assert time.monotonic() < deadline


def test_callers_at_once_are_all_stored(scheduler: Scheduler) -> None:
    register_gpu(scheduler)
    jobs = [new_job() for _ in range(200)]
    with ThreadPoolExecutor(8) as threads:
        answers: list[Submitted | Exception] = list(threads.map(scheduler.queue.submit, jobs))

    assert stored(scheduler) == made(answers) == {job.id for job in jobs}


def test_a_transaction_that_the_server_ends_is_an_unusable_store(scheduler: Scheduler, engine: str) -> None:
    """As it ends one whose process was stopped in it, for its locks must not be held for hours."""
    if engine == "sqlite":
        pytest.skip("SQLite has no server")
    with scheduler.database.trip() as trip:
        limit = trip.row((Statement("SHOW transaction_timeout"),), {}).transaction_timeout
        trip.end()
        trip.cursor().execute("SET transaction_timeout = '50ms'")
    with pytest.raises(StoreUnreachable), scheduler.database.trip() as trip:
        trip.run((Statement("SELECT pg_sleep(10)"),), {})
    with scheduler.database.trip() as trip:
        assert trip.row((Statement("SELECT 1 AS one"),), {}).one == 1
    with scheduler.database.read() as conn:
        assert conn.execute(text("SELECT 1")).scalar_one() == 1

    assert limit == "30s"
