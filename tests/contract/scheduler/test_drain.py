"""Draining a GPU: no new job from that moment, `drained` only when it is empty, and for as long as it takes."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from scheduler.drains import DrainOrder, Ending
from scheduler.errors import InvalidParameter, NotFound
from scheduler.records import Drain, GpuSample
from scheduler.service import Scheduler
from scheduler.states import Directive, DrainMode, GpuState, JobStatus, OnDeadline
from tests.support.databases import Clock
from tests.support.fleet import (
    HALF_WAY,
    MEASURED,
    MODEL,
    RESULT,
    RegisteredGpu,
    gpu_info,
    new_job,
    register_gpu,
    snapshot,
)


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job())
    return gpu


def state(scheduler: Scheduler) -> GpuState:
    return scheduler.fleet.gpu("GPU-0").state


def test_a_draining_gpu_gets_no_job(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    drained = scheduler.fleet.drain("GPU-0", " fan is loud ", "alice")

    assert (drained.state, drained.reason, drained.actor) == (GpuState.DRAINING, "fan is loud", "alice")
    assert drained.state_changed_at == clock.seconds
    assert gpu.claim() is None
    other = register_gpu(scheduler, "GPU-1")
    assert other.claim() is not None


def test_it_is_drained_only_when_its_job_and_its_process_are_gone(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")
    assert state(scheduler) is GpuState.DRAINING
    scheduler.leases.succeed(lease, RESULT, MEASURED)
    scheduler.reaper.run_once()
    assert state(scheduler) is GpuState.DRAINING, "its process still holds memory"

    scheduler.fleet.worker_gone(gpu.workers[0])

    assert state(scheduler) is GpuState.DRAINED


def test_a_dead_process_ends_the_drain_and_its_job_moves_on(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")

    assert scheduler.fleet.worker_gone(gpu.workers[0]) == [lease.job_id]

    assert state(scheduler) is GpuState.DRAINED
    assert scheduler.queue.get(lease.job_id).status is JobStatus.QUEUED


def test_a_silent_process_ends_the_drain(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    gpu.must_claim()
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")
    clock.advance(11)

    scheduler.reaper.run_once()

    assert state(scheduler) is GpuState.DRAINED


def test_the_reaper_ends_a_drain_that_nobody_else_did(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    gpu.must_claim()
    with scheduler.database.write() as conn:  # given up between its last look for work and its claim
        conn.exec_driver_sql("DELETE FROM workers")
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")
    assert state(scheduler) is GpuState.DRAINING
    clock.advance(11)

    scheduler.reaper.run_once()

    assert state(scheduler) is GpuState.DRAINED


def test_a_gpu_without_a_process_is_drained_at_once(scheduler: Scheduler) -> None:
    register_gpu(scheduler, workers=0)

    assert scheduler.fleet.drain("GPU-0", "maintenance", "alice").state is GpuState.DRAINED


def test_a_process_that_appears_on_a_drained_gpu_makes_it_draining_again(scheduler: Scheduler) -> None:
    gpu = register_gpu(scheduler, workers=0)
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")

    late = gpu.add_worker(ready=False)  # it was being started when the drain was asked for

    assert state(scheduler) is GpuState.DRAINING
    scheduler.fleet.worker_gone(late)
    assert state(scheduler) is GpuState.DRAINED
    assert scheduler.fleet.gpu("GPU-0").reason == "maintenance"


@pytest.mark.parametrize("workers", [0, 1], ids=["drained", "draining"])
def test_a_drain_survives_a_restart_of_the_host(scheduler: Scheduler, workers: int) -> None:
    register_gpu(scheduler, workers=workers)
    before = scheduler.fleet.drain("GPU-0", "maintenance", "alice").state

    scheduler.fleet.register(MODEL, [gpu_info()])
    scheduler.fleet.sample("GPU-0", GpuSample(0, 1))

    gpu = scheduler.fleet.gpu("GPU-0")
    assert (gpu.state, gpu.reason, gpu.actor) == (before, "maintenance", "alice")


def test_asking_again_replaces_what_was_said_and_keeps_the_state(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    first = scheduler.fleet.drain("GPU-0", "maintenance", "alice", deadline_seconds=60, resume_after_seconds=120)
    clock.advance(5)

    again = scheduler.fleet.drain(
        "GPU-0", "new fan", "bob", mode=DrainMode.CHECKPOINT, deadline_seconds=30, on_deadline=OnDeadline.KILL
    )

    assert (again.state, again.state_changed_at) == (GpuState.DRAINING, first.state_changed_at)
    assert (again.reason, again.actor) == ("new fan", "bob")
    now = clock.seconds
    assert again.drain == Drain(DrainMode.CHECKPOINT, now, now + 30, OnDeadline.KILL, None)


def test_asking_again_does_not_reopen_a_drained_gpu(scheduler: Scheduler, clock: Clock) -> None:
    register_gpu(scheduler, workers=0)
    drained_at = scheduler.fleet.drain("GPU-0", "maintenance", "alice").state_changed_at
    clock.advance(5)

    again = scheduler.fleet.drain("GPU-0", "new fan", "bob", resume_after_seconds=60)

    assert (again.state, again.reason, again.state_changed_at) == (GpuState.DRAINED, "new fan", drained_at)
    assert again.drain is not None
    assert again.drain.resume_at == clock.seconds + 60


def test_many_gpus_are_drained_at_once_or_not_at_all(scheduler: Scheduler) -> None:
    ids = ["GPU-2", "GPU-0", "GPU-1"]
    for gpu_id in ids:
        register_gpu(scheduler, gpu_id, workers=0)
    order = DrainOrder("rack 4 moves", "alice")
    with pytest.raises(NotFound, match="no GPU GPU-9"):
        scheduler.fleet.drain_all(["GPU-0", "GPU-9"], order)
    assert state(scheduler) is GpuState.ACTIVE

    drained = scheduler.fleet.drain_all(ids[:2], order)

    assert [(gpu.info.id, gpu.state, gpu.reason) for gpu in drained] == [
        ("GPU-2", GpuState.DRAINED, "rack 4 moves"),
        ("GPU-0", GpuState.DRAINED, "rack 4 moves"),
    ]
    assert scheduler.fleet.gpu("GPU-1").state is GpuState.ACTIVE
    with pytest.raises(NotFound, match="no GPU GPU-9"):
        scheduler.fleet.resume_all(["GPU-9", "GPU-0"], "bob")
    assert state(scheduler) is GpuState.DRAINED
    assert [gpu.state for gpu in scheduler.fleet.resume_all(ids, "bob")] == [GpuState.ACTIVE] * 3


def test_a_checkpoint_asks_for_the_jobs_at_once_and_burns_no_attempt(
    scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock
) -> None:
    lease = gpu.must_claim()
    assert scheduler.leases.report(lease, HALF_WAY) is Directive.CONTINUE

    drained = scheduler.fleet.drain("GPU-0", "maintenance", "alice", mode=DrainMode.CHECKPOINT)

    assert [open_lease.release_requested for open_lease in drained.leases] == [True]
    assert scheduler.leases.directive(lease) is Directive.RELEASE
    assert scheduler.leases.report(lease, HALF_WAY) is Directive.RELEASE
    scheduler.leases.release(lease)
    job = scheduler.queue.get(lease.job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    other = register_gpu(scheduler, "GPU-1")
    assert other.must_claim().attempt == 1


def test_a_cancel_goes_before_a_release(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    scheduler.fleet.drain("GPU-0", "maintenance", "alice", mode=DrainMode.CHECKPOINT)
    scheduler.queue.cancel(lease.job_id)

    assert scheduler.leases.directive(lease) is Directive.CANCEL


def test_a_job_that_was_asked_for_stays_asked_for(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    lease = gpu.must_claim()
    scheduler.fleet.drain("GPU-0", "maintenance", "alice", mode=DrainMode.CHECKPOINT)
    scheduler.fleet.drain("GPU-0", "maintenance", "alice", mode=DrainMode.FINISH)
    scheduler.fleet.resume("GPU-0", "alice")

    assert scheduler.leases.directive(lease) is Directive.RELEASE


def test_a_dry_run_changes_nothing(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    lease = gpu.must_claim()
    clock.advance(30)
    scheduler.leases.report(lease, HALF_WAY)
    before = snapshot(scheduler)

    (found,) = scheduler.fleet.drain_preview(["GPU-0"], DrainOrder("maintenance", "alice", DrainMode.CHECKPOINT))

    (job,) = found.jobs
    assert (found.gpu_id, job.job_id, job.ending) == ("GPU-0", lease.job_id, Ending.RELEASED)
    assert job.lost_seconds == pytest.approx(30 + job.in_seconds)
    assert found.empty_in_seconds == job.in_seconds == pytest.approx(lease_seconds(scheduler) / 50)
    with pytest.raises(NotFound, match="GPU-9"):
        scheduler.fleet.drain_preview(["GPU-9"], DrainOrder("maintenance", "alice"))
    with pytest.raises(InvalidParameter, match="deadline_seconds"):
        scheduler.fleet.drain_preview(["GPU-0"], DrainOrder("maintenance", "alice", deadline_seconds=0))
    assert snapshot(scheduler) == before


def lease_seconds(scheduler: Scheduler) -> float:
    (lease,) = scheduler.fleet.gpu("GPU-0").leases
    return lease.predicted_seconds


def test_every_change_is_an_event(scheduler: Scheduler, clock: Clock) -> None:
    gpu = register_gpu(scheduler)
    register_gpu(scheduler, workers=0)  # a restart is no news
    scheduler.fleet.drain("GPU-0", "maintenance", "alice", deadline_seconds=60)
    scheduler.fleet.worker_gone(gpu.workers[0])
    gpu.add_worker(ready=False)
    scheduler.fleet.worker_gone(gpu.workers[1])
    scheduler.fleet.resume("GPU-0", "bob")
    scheduler.fleet.resume("GPU-0", "bob")
    scheduler.fleet.fault("GPU-0", "Xid 79")
    scheduler.fleet.drain("GPU-0", "swap it", "carol")

    found = scheduler.events.read(subject="GPU-0")

    assert [(event.type, event.actor, event.data.get("reason")) for event in found] == [
        ("gpu.registered", None, None),
        ("gpu.draining", "alice", "maintenance"),
        ("gpu.drained", "alice", "maintenance"),
        ("gpu.draining", "alice", "maintenance"),
        ("gpu.drained", "alice", "maintenance"),
        ("gpu.active", "bob", "maintenance"),
        ("gpu.faulted", "supervisor", "Xid 79"),
        ("gpu.draining", "carol", "swap it"),
        ("gpu.drained", "carol", "swap it"),
    ]
    assert found[1].data == {
        "reason": "maintenance",
        "mode": "finish",
        "asked_at": clock.seconds,
        "deadline_at": clock.seconds + 60,
        "on_deadline": "checkpoint",
        "resume_at": None,
    }


def test_a_refused_drain_leaves_no_event(scheduler: Scheduler) -> None:
    register_gpu(scheduler, workers=0)
    before = snapshot(scheduler)
    with pytest.raises(NotFound):
        scheduler.fleet.drain_all(["GPU-0", "GPU-9"], DrainOrder("maintenance", "alice"))
    assert snapshot(scheduler) == before


def test_resume_puts_it_back_to_work(scheduler: Scheduler, gpu: RegisteredGpu, clock: Clock) -> None:
    scheduler.fleet.drain("GPU-0", "maintenance", "alice")
    clock.advance(5)

    resumed = scheduler.fleet.resume("GPU-0", "bob")

    assert (resumed.state, resumed.reason, resumed.actor) == (GpuState.ACTIVE, None, "bob")
    assert resumed.state_changed_at == clock.seconds
    assert gpu.claim() is not None
    clock.advance(5)
    assert scheduler.fleet.resume("GPU-0", "carol").actor == "bob", "an active GPU stays as it is"


def test_a_faulted_gpu_gets_no_job_until_it_is_resumed(scheduler: Scheduler, gpu: RegisteredGpu) -> None:
    scheduler.fleet.fault("GPU-0", "Xid 79: GPU has fallen off the bus" + "!" * 1000)

    faulted = scheduler.fleet.gpu("GPU-0")
    assert (faulted.state, faulted.actor) == (GpuState.FAULTED, "supervisor")
    assert faulted.reason is not None
    assert len(faulted.reason) == 500
    assert gpu.claim() is None
    assert scheduler.fleet.drain("GPU-0", "swap it", "alice").state is GpuState.DRAINING
    scheduler.fleet.fault("GPU-0", "again")
    assert scheduler.fleet.gpu("GPU-0").reason == "swap it", "an operator's word stands"
    scheduler.fleet.resume("GPU-0", "alice")
    assert gpu.claim() is not None


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 501])
def test_a_drain_needs_a_reason_of_sane_length(scheduler: Scheduler, gpu: RegisteredGpu, reason: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^reason must"):
        scheduler.fleet.drain("GPU-0", reason, "alice")

    assert state(scheduler) is GpuState.ACTIVE


def test_an_unknown_gpu_is_not_found(scheduler: Scheduler) -> None:
    for call in (
        lambda: scheduler.fleet.gpu("GPU-9"),
        lambda: scheduler.fleet.drain("GPU-9", "maintenance", "alice"),
        lambda: scheduler.fleet.resume("GPU-9", "alice"),
        lambda: scheduler.fleet.fault("GPU-9", "broken"),
    ):
        with pytest.raises(NotFound, match="GPU-9"):
            call()


def test_drains_of_many_at_once_never_wait_for_each_other_in_a_ring(scheduler: Scheduler) -> None:
    """Each of several operators drains and resumes all GPUs, each in an order of their own, while the reaper works."""
    ids = [register_gpu(scheduler, f"GPU-{number}", workers=0).info.id for number in range(4)]
    together = Barrier(5)

    def operate(number: int) -> None:
        mine = ids[number:] + ids[:number]
        together.wait()
        for _ in range(10):
            scheduler.fleet.drain_all(mine, DrainOrder("maintenance", "alice", resume_after_seconds=1))
            scheduler.fleet.resume_all(mine[::-1], "alice")

    def reap() -> None:
        together.wait()
        for _ in range(10):
            scheduler.reaper.run_once()

    with ThreadPoolExecutor(5) as threads:
        for done in [threads.submit(reap), *(threads.submit(operate, number) for number in range(4))]:
            done.result()

    assert {gpu.state for gpu in scheduler.fleet.gpus()} == {GpuState.ACTIVE}


def test_no_claim_slips_past_a_drain(scheduler: Scheduler) -> None:
    gpus = [register_gpu(scheduler, f"GPU-{number}") for number in range(4)]
    for _ in range(16):
        scheduler.queue.submit(new_job())
    together = Barrier(8)

    def claim(gpu: RegisteredGpu) -> None:
        together.wait()
        gpu.claim()

    def drain(gpu: RegisteredGpu) -> tuple[int, int]:
        together.wait()
        at_drain = len(scheduler.fleet.drain(gpu.info.id, "maintenance", "alice").leases)
        gpu.claim()
        return at_drain, len(scheduler.fleet.gpu(gpu.info.id).leases)

    with ThreadPoolExecutor(8) as threads:
        claims = [threads.submit(claim, gpu) for gpu in gpus]
        drains = [threads.submit(drain, gpu) for gpu in gpus]
        for claimed in claims:
            claimed.result()
        for drained in drains:
            at_drain, afterwards = drained.result()
            assert afterwards == at_drain
