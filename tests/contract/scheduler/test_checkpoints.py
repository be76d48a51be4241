"""Checkpoints: named by the lease that is held, kept from attempt to attempt, gone with the job's end."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from scheduler.blobs import BlobStore
from scheduler.drains import DrainOrder
from scheduler.errors import LeaseLost, NotFound
from scheduler.plans import GPU_PLANS
from scheduler.records import Checkpoint, Lease, Measured, Progress
from scheduler.service import Scheduler
from scheduler.states import Directive, DrainMode, JobStatus, OnDeadline, Outcome, Stage
from scheduler.store import schema as s
from scheduler.sweeper import Sweeper
from tests.support.databases import Clock
from tests.support.fleet import ERROR, HALF_WAY, MEASURED, RESULT, RegisteredGpu, new_job, register_gpu

DAY = 86_400.0


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    gpu = register_gpu(scheduler, plans=GPU_PLANS)
    scheduler.queue.submit(new_job())
    return gpu


def saved(lease: Lease, step: int) -> Checkpoint:
    key = f"jobs/{lease.job_id}/{lease.fence}/checkpoint_{step}.safetensors"
    return Checkpoint(key, step, "a" * 64, lease.plan, bytes=1000 + step)


def at(step: int) -> Progress:
    return Progress(Stage.DENOISING, step, 50, step / 60)


def named(scheduler: Scheduler, job_id: str) -> tuple[int, int] | None:
    """The lease and the step of a job's checkpoint."""
    c = s.checkpoints.c
    with scheduler.database.read() as conn:
        row = conn.execute(select(c.lease, c.step).where(c.job_id == job_id)).one_or_none()
    return None if row is None else (row.lease, row.step)


def test_a_report_names_a_checkpoint_and_the_next_attempt_gets_it(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    lease = gpu.must_claim()
    assert lease.checkpoint is None
    assert scheduler.queue.get(lease.job_id).checkpoint_step is None

    assert scheduler.leases.report(lease, at(12), saved(lease, 12)) is Directive.CONTINUE

    job = scheduler.queue.get(lease.job_id)
    assert (job.checkpoint_step, job.progress) == (12, at(12))
    scheduler.leases.release(lease)
    again = gpu.must_claim()
    assert again.checkpoint == saved(lease, 12)
    assert scheduler.queue.get(lease.job_id).checkpoint_step == 12


def test_a_report_with_a_checkpoint_is_a_sign_of_life_as_any(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    lease = gpu.must_claim()
    clock.advance(9)
    scheduler.leases.report(lease, at(12), saved(lease, 12))

    (open_lease,) = scheduler.fleet.gpu("GPU-0").leases
    assert (open_lease.expires_at, open_lease.progress_at) == (clock.seconds + 10, clock.seconds)
    assert scheduler.fleet.look_at_worker("GPU-0", lease.worker_id).seen_at == clock.seconds
    before = scheduler.queue.get(lease.job_id).version
    scheduler.leases.report(lease, at(12), saved(lease, 12))
    assert scheduler.queue.get(lease.job_id).version > before
    scheduler.queue.cancel(lease.job_id)
    assert scheduler.leases.report(lease, at(13), saved(lease, 13)) is Directive.CANCEL


def test_of_one_lease_the_later_step_wins_and_a_later_lease_over_any(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    for step, kept in ((12, 12), (6, 12), (20, 20)):
        scheduler.leases.report(lease, at(20), saved(lease, step))
        assert named(scheduler, lease.job_id) == (1, kept)
    scheduler.leases.release(lease, checkpoint=saved(lease, 5))
    assert named(scheduler, lease.job_id) == (1, 20)

    again = gpu.must_claim()
    scheduler.leases.report(again, at(3), saved(again, 3))
    assert named(scheduler, lease.job_id) == (2, 3)


def test_only_the_lease_that_is_held_names_one(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    scheduler.leases.report(lease, at(12), saved(lease, 12))
    scheduler.leases.release(lease)
    again = gpu.must_claim()

    with pytest.raises(LeaseLost):
        scheduler.leases.report(lease, at(30), saved(lease, 30))

    assert named(scheduler, lease.job_id) == (1, 12)
    scheduler.leases.report(again, at(13), saved(again, 13))
    assert named(scheduler, lease.job_id) == (2, 13)


GIVEN_BACK: dict[str, Callable[[RegisteredGpu, Lease, Clock], object]] = {
    "release": lambda gpu, lease, clock: gpu.scheduler.leases.release(lease),
    "retry": lambda gpu, lease, clock: gpu.scheduler.leases.retry(lease, ERROR, MEASURED),
    "out of memory": lambda gpu, lease, clock: gpu.scheduler.leases.out_of_memory(lease, None, stage="denoising"),
    "worker lost": lambda gpu, lease, clock: gpu.scheduler.fleet.worker_gone(lease.worker_id),
    "worker to be killed": lambda gpu, lease, clock: gpu.scheduler.leases.release_worker(lease.worker_id),
    "silence": lambda gpu, lease, clock: silent(gpu, clock),
    "deadline of a drain": lambda gpu, lease, clock: drained(gpu, clock),
}


def silent(gpu: RegisteredGpu, clock: Clock) -> None:
    clock.advance(11)
    gpu.scheduler.reaper.run_once()


def drained(gpu: RegisteredGpu, clock: Clock) -> None:
    gpu.scheduler.fleet.drain("GPU-0", "fans", "alice", deadline_seconds=5.0, on_deadline=OnDeadline.KILL)
    clock.advance(6)
    gpu.scheduler.reaper.run_once()


@pytest.mark.parametrize("give_back", GIVEN_BACK)
def test_a_checkpoint_outlives_the_attempt(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock, give_back: str
) -> None:
    lease = gpu.must_claim()
    scheduler.leases.report(lease, at(12), saved(lease, 12))

    GIVEN_BACK[give_back](gpu, lease, clock)

    job = scheduler.queue.get(lease.job_id)
    assert (job.status, job.checkpoint_step) == (JobStatus.QUEUED, 12)
    clock.advance(60)
    other = register_gpu(scheduler, "GPU-1", plans=GPU_PLANS)
    assert other.must_claim().checkpoint == saved(lease, 12)


@pytest.mark.parametrize("how", ["release", "retry", "out of memory", "numerical failure"])
def test_the_last_checkpoint_comes_with_the_end_of_the_attempt(
    scheduler: Scheduler, gpu: RegisteredGpu, how: str
) -> None:
    lease = gpu.must_claim()
    leases, last = scheduler.leases, saved(lease, 30)
    end = {
        "release": lambda: leases.release(lease, checkpoint=last, measured=MEASURED),
        "retry": lambda: leases.retry(lease, ERROR, MEASURED, checkpoint=last),
        "out of memory": lambda: leases.out_of_memory(lease, MEASURED, checkpoint=last, stage="denoising"),
        "numerical failure": lambda: leases.numerical_failure(lease, ERROR, MEASURED, checkpoint=last),
    }

    assert end[how]() is JobStatus.QUEUED

    assert named(scheduler, lease.job_id) == (1, 30)
    (attempt,) = scheduler.queue.attempts(lease.job_id)
    assert attempt.measured == MEASURED


ENDS: dict[str, Callable[[Scheduler, Lease], object]] = {
    "succeed": lambda scheduler, lease: scheduler.leases.succeed(lease, RESULT, MEASURED),
    "fail": lambda scheduler, lease: scheduler.leases.fail(lease, ERROR),
    "cancelled": lambda scheduler, lease: (
        scheduler.queue.cancel(lease.job_id),
        scheduler.leases.cancelled(lease, MEASURED),
    ),
    "cancelled when released": lambda scheduler, lease: (
        scheduler.queue.cancel(lease.job_id),
        scheduler.leases.release(lease, checkpoint=saved(lease, 40)),
    ),
    "cancelled when retried": lambda scheduler, lease: (
        scheduler.queue.cancel(lease.job_id),
        scheduler.leases.retry(lease, ERROR, checkpoint=saved(lease, 40)),
    ),
    "cancelled when out of memory": lambda scheduler, lease: (
        scheduler.queue.cancel(lease.job_id),
        scheduler.leases.out_of_memory(lease, None, checkpoint=saved(lease, 40), stage="denoising"),
    ),
    "cancelled although finished": lambda scheduler, lease: (
        scheduler.queue.cancel(lease.job_id),
        scheduler.leases.succeed(lease, RESULT, MEASURED),
    ),
    "cancelled in the queue": lambda scheduler, lease: (
        scheduler.leases.release(lease),
        scheduler.queue.cancel(lease.job_id),
    ),
    "refused": lambda scheduler, lease: (
        scheduler.leases.release(lease),
        scheduler.queue.refuse(lease.job_id, ERROR),
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_of_a_job_is_the_end_of_its_checkpoint(scheduler: Scheduler, gpu: RegisteredGpu, end: str) -> None:
    lease = gpu.must_claim()
    scheduler.leases.report(lease, at(12), saved(lease, 12))

    ENDS[end](scheduler, lease)

    assert scheduler.queue.get(lease.job_id).status.ended
    assert named(scheduler, lease.job_id) is None
    scheduler.queue.delete(lease.job_id)


def test_the_last_failed_attempt_ends_it(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    for _ in range(3):
        lease = gpu.must_claim()
        scheduler.leases.retry(lease, ERROR, checkpoint=saved(lease, 12))
        clock.advance(100)

    assert scheduler.queue.get(lease.job_id).status is JobStatus.FAILED
    assert named(scheduler, lease.job_id) is None


def test_an_attempt_says_where_it_goes_on_from(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    scheduler.leases.release(lease, checkpoint=saved(lease, 12))
    again = gpu.must_claim()
    before = scheduler.queue.get(lease.job_id)
    assert before.resumed_from_step is None

    scheduler.leases.resumed(again, 12)

    job = scheduler.queue.get(lease.job_id)
    assert job.resumed_from_step == 12
    assert job.version > before.version
    assert [attempt.resumed_from_step for attempt in scheduler.queue.attempts(job.id)] == [None, 12]


def test_a_checkpoint_that_does_not_match_is_discarded_and_the_job_says_so(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    lease = gpu.must_claim()
    scheduler.leases.release(lease, checkpoint=saved(lease, 12))
    again = gpu.must_claim()
    clock.advance(1)

    scheduler.leases.discard_checkpoint(again, "it is of another version of torch")

    job = scheduler.queue.get(lease.job_id)
    assert (job.status, job.checkpoint_step) == (JobStatus.RUNNING, None)
    (notice,) = job.notices
    assert (notice.at, notice.code) == (clock.seconds, "checkpoint_discarded")
    assert notice.message == "it is of another version of torch; the job starts anew"
    told = scheduler.events.read(subject=job.id)[-1]
    assert (told.type, told.data) == (
        "job.checkpoint_discarded",
        {"lease": 2, "reason": "it is of another version of torch"},
    )
    scheduler.leases.report(again, at(3), saved(again, 3))
    assert named(scheduler, job.id) == (2, 3)


def test_all_that_was_measured_is_kept(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    used = Measured(
        vram_peak_bytes=7 * 2**30,
        run_seconds=12.5,
        working_peak_bytes=3 * 2**30,
        steps=38,
        step_seconds=0.25,
        fixed_seconds=3.0,
        sharing=2,
        energy_joules=3100.5,
        stage_seconds={"denoising": 9.5, "decoding": 2.0},
    )
    lease = gpu.must_claim()
    scheduler.leases.release(lease, measured=used)
    scheduler.leases.succeed(gpu.must_claim(), RESULT, used)

    assert [attempt.measured for attempt in scheduler.queue.attempts(lease.job_id)] == [used, used]
    assert scheduler.queue.get(lease.job_id).measured == used


def test_a_dry_run_of_a_drain_counts_only_what_was_done_since_the_last_checkpoint(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    lease = gpu.must_claim()
    kill = DrainOrder("fans", "alice", deadline_seconds=1.0, on_deadline=OnDeadline.KILL)
    stop = DrainOrder("fans", "alice", mode=DrainMode.CHECKPOINT)

    def lost(order: DrainOrder) -> float:
        (preview,) = scheduler.fleet.drain_preview(["GPU-0"], order)
        return preview.jobs[0].lost_seconds

    clock.advance(2)
    assert lost(kill) == pytest.approx(3.0)
    scheduler.leases.report(lease, at(2), saved(lease, 2))
    clock.advance(0.5)
    assert (lost(kill), lost(stop)) == (pytest.approx(0.5), 0.0)
    scheduler.leases.release(lease)
    gpu.must_claim()
    clock.advance(4)
    assert lost(kill) == pytest.approx(5.0), "what an earlier attempt saved says nothing of this one"


@pytest.fixture
def put(scheduler: Scheduler, make_file: Callable[[bytes], Path]) -> Callable[[str], str]:
    def put(key: str) -> str:
        scheduler.blobs.put_file(key, make_file(b"x"))
        return key

    return put


def there(blobs: BlobStore, key: str) -> bool:
    try:
        return blobs.size(key) == 1
    except NotFound:
        return False


def file_of(lease: Lease, name: str) -> str:
    return f"jobs/{lease.job_id}/{lease.fence}/{name}"


def test_what_superseded_attempts_have_left_is_swept_and_what_is_named_is_not(
    scheduler: Scheduler, gpu: RegisteredGpu, put: Callable[[str], str], clock: Clock
) -> None:
    sweeper = Sweeper(scheduler.database, scheduler.blobs)
    sweeper.run_once()  # the store becomes this installation's
    leases = [gpu.must_claim()]
    files = [put(file_of(leases[0], "checkpoint_4.safetensors"))]
    for step in (12, 20):
        scheduler.leases.release(leases[-1], checkpoint=saved(leases[-1], step))
        leases.append(gpu.must_claim())
        files.append(put(file_of(leases[-1], "checkpoint_4.safetensors")))
    image = put(f"jobs/{leases[0].job_id}/input.png")

    assert sweeper.run_once() == [f"{leases[0].job_id}/1"], "the second is named, the third runs"

    assert [there(scheduler.blobs, key) for key in (*files, image)] == [False, True, True, True]
    assert sweeper.run_once() == []
    scheduler.leases.succeed(leases[-1], replace(RESULT, video_key=file_of(leases[-1], "video.mp4")), MEASURED)
    clock.advance(1)
    assert sweeper.run_once() == [f"{leases[0].job_id}/2"]
    assert [there(scheduler.blobs, key) for key in (*files, image)] == [False, False, True, True]


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_job_that_ended_without_a_result_keeps_its_image_only(
    scheduler: Scheduler, gpu: RegisteredGpu, put: Callable[[str], str], clock: Clock, end: str
) -> None:
    sweeper = Sweeper(scheduler.database, scheduler.blobs)
    sweeper.run_once()
    lease = gpu.must_claim()
    image, partial = put(f"jobs/{lease.job_id}/input.png"), put(file_of(lease, "checkpoint_12.safetensors"))
    assert sweeper.run_once() == []
    if end == "failed":
        scheduler.leases.fail(lease, ERROR)
    else:
        scheduler.leases.release(lease, checkpoint=saved(lease, 12))
        assert sweeper.run_once() == []
        scheduler.queue.cancel(lease.job_id)

    assert sweeper.run_once() == [f"{lease.job_id}/1"]

    assert (there(scheduler.blobs, image), there(scheduler.blobs, partial)) == (True, False)
    late = put(partial)
    clock.advance(60)
    assert sweeper.run_once() == [f"{lease.job_id}/1"], "its worker had not heard of it"
    assert not there(scheduler.blobs, late)


def test_the_sweeper_looks_at_each_ended_job_once_or_twice_and_at_all_when_it_starts(
    scheduler: Scheduler, gpu: RegisteredGpu, put: Callable[[str], str], clock: Clock
) -> None:
    sweeper = Sweeper(scheduler.database, scheduler.blobs)
    sweeper.run_once()
    lease = gpu.must_claim()
    scheduler.leases.fail(lease, ERROR)
    for _ in range(2):
        clock.advance(DAY)
        sweeper.run_once()
    stale = put(file_of(lease, "checkpoint_12.safetensors"))

    assert sweeper.run_once() == []
    assert Sweeper(scheduler.database, scheduler.blobs).run_once() == [f"{lease.job_id}/1"]
    assert not there(scheduler.blobs, stale)


def test_the_pruner_leaves_alone_what_may_go_on(
    scheduler: Scheduler, gpu: RegisteredGpu, put: Callable[[str], str], clock: Clock
) -> None:
    lease = gpu.must_claim()
    key = put(file_of(lease, "checkpoint_12.safetensors"))
    scheduler.leases.release(lease, checkpoint=saved(lease, 12))
    clock.advance(1000 * DAY)

    scheduler.pruner.run_once()

    assert there(scheduler.blobs, key)
    scheduler.queue.cancel(lease.job_id)
    clock.advance(1000 * DAY)
    scheduler.pruner.run_once()
    assert not there(scheduler.blobs, key)


def test_an_expired_attempt_burns_and_a_released_one_does_not(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    """As without checkpoints: what is kept changes nothing about who pays."""
    lease = gpu.must_claim()
    scheduler.leases.report(lease, HALF_WAY, saved(lease, 25))
    scheduler.leases.release_worker(lease.worker_id)
    assert scheduler.queue.get(lease.job_id).attempts == 0
    again = gpu.must_claim()
    scheduler.leases.expire_worker(again.worker_id)
    assert scheduler.queue.get(lease.job_id).attempts == 1
    assert [each.outcome for each in scheduler.queue.attempts(lease.job_id)] == [Outcome.RELEASED, Outcome.EXPIRED]
