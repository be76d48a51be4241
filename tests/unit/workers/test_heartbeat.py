"""The heartbeat: what it keeps alive, what it hears, and when it is silent. On a real store, with real threads."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from scheduler.errors import NotFound, StoreUnreachable
from scheduler.policy import Policy
from scheduler.records import Checkpoint, Lease, NewJob, Progress, Worker
from scheduler.service import Scheduler
from scheduler.states import Directive, DrainMode, Stage
from tests.support.databases import sqlite_template
from tests.support.fleet import MODEL, PARAMS, RegisteredGpu, open_scheduler, register_gpu
from tests.support.service import wait_for
from workers.control import Cause, Control, Interrupted
from workers.heartbeat import Heartbeat, Pulse

__all__ = ["sqlite_template"]

_LEASE_SECONDS = 3.0
Begin = Callable[[], tuple[Lease, Control, Pulse]]


@pytest.fixture
def scheduler(tmp_path: Path, sqlite_template: Path) -> Iterator[Scheduler]:
    path = tmp_path / "reelq.db"
    path.write_bytes(sqlite_template.read_bytes())
    policy = Policy(lease_seconds=_LEASE_SECONDS, worker_ttl_seconds=_LEASE_SECONDS, retry_base_seconds=0.001)
    with open_scheduler(f"sqlite:///{path}", tmp_path, policy) as opened:
        yield opened


@pytest.fixture
def gpu(scheduler: Scheduler) -> RegisteredGpu:
    return register_gpu(scheduler)


@pytest.fixture
def worker(gpu: RegisteredGpu) -> Worker:
    (worker,) = gpu.scheduler.fleet.gpu(gpu.info.id).workers
    return worker


@pytest.fixture
def heartbeat(scheduler: Scheduler, worker: Worker) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(worker, scheduler.fleet, scheduler.leases, _LEASE_SECONDS / 4)
    heartbeat.start()
    yield heartbeat
    heartbeat.close()


@pytest.fixture
def begin(gpu: RegisteredGpu, heartbeat: Heartbeat) -> Begin:
    """Claim a job for the worker and begin beating for it."""

    def start() -> tuple[Lease, Control, Pulse]:
        submit(gpu.scheduler)
        lease, control = gpu.must_claim(), Control(threading.Event())
        return lease, control, heartbeat.begin(lease, control, _step(0))

    return start


def submit(scheduler: Scheduler) -> None:
    number = len(scheduler.queue.list_jobs(limit=100))
    scheduler.queue.submit(NewJob(f"job_{number:026d}", MODEL.id, "a cat", PARAMS, f"jobs/{number}/image.png"))


def test_a_lease_outlives_its_term_while_one_step_takes_long(scheduler: Scheduler, begin: Begin) -> None:
    lease, control, _ = begin()
    first = _expires_at(scheduler)
    # Two extensions without any progress: the computing thread is busy with one step.
    wait_for(lambda: _expires_at(scheduler) > first, "the first extension")
    second = _expires_at(scheduler)
    wait_for(lambda: _expires_at(scheduler) > second, "the second extension")
    control.check()
    assert scheduler.queue.get(lease.job_id).version[1] >= 2


def test_progress_shows_in_the_store(scheduler: Scheduler, begin: Begin, heartbeat: Heartbeat) -> None:
    lease, _, pulse = begin()
    for step in (1, 7, 50):
        pulse.progress(_step(step))
        wait_for(lambda step=step: _shown(scheduler, lease) == _step(step), f"step {step} to show")


def test_a_cancel_is_heard_within_a_second(scheduler: Scheduler, begin: Begin) -> None:
    lease, control, _ = begin()
    scheduler.queue.cancel(lease.job_id)
    wait_for(lambda: _cause(control) is Cause.CANCEL, "the cancel to be heard", timeout=_LEASE_SECONDS / 4 + 1.0)


def test_a_drain_that_asks_for_the_job_is_heard_and_a_cancel_goes_before_it(
    scheduler: Scheduler, gpu: RegisteredGpu, begin: Begin
) -> None:
    lease, control, _ = begin()
    scheduler.fleet.drain(gpu.info.id, "new fans", "operator")
    control.check()
    scheduler.fleet.drain(gpu.info.id, "new fans", "operator", mode=DrainMode.CHECKPOINT)
    wait_for(lambda: _cause(control) is Cause.RELEASE, "the drain to be heard", timeout=_LEASE_SECONDS / 4 + 1.0)
    scheduler.queue.cancel(lease.job_id)
    wait_for(lambda: _cause(control) is Cause.CANCEL, "the cancel to be heard")


def test_a_cancel_is_heard_however_far_the_next_report(
    scheduler: Scheduler, worker: Worker, gpu: RegisteredGpu
) -> None:
    """Steps longer than the pace of reports would otherwise hide it for one more step."""
    heartbeat = Heartbeat(worker, scheduler.fleet, scheduler.leases, interval_seconds=3600.0)
    heartbeat.start()
    try:
        submit(scheduler)
        lease, control = gpu.must_claim(), Control(threading.Event())
        heartbeat.begin(lease, control, _step(1))
        wait_for(lambda: _shown(scheduler, lease) == _step(1), "the only report to be sent")
        scheduler.queue.cancel(lease.job_id)
        wait_for(lambda: _cause(control) is Cause.CANCEL, "the cancel to be heard", timeout=5.0)
        assert _shown(scheduler, lease) == _step(1)
    finally:
        heartbeat.close()


def test_a_lost_lease_reaches_the_attempt_and_is_reported_no_more(
    scheduler: Scheduler, begin: Begin, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, control, _ = begin()
    scheduler.leases.expire_worker(worker.id)
    wait_for(lambda: _cause(control) is Cause.LEASE_LOST, "the loss to be heard")
    reports = _count(monkeypatch, scheduler.leases, "report")
    touches = _count(monkeypatch, scheduler.fleet, "touch_worker")
    wait_for(touches, "a sign of life without a lease")
    assert reports() == 0
    assert scheduler.queue.get(lease.job_id).progress is None


def test_a_worker_that_was_given_up_registers_again(
    scheduler: Scheduler, gpu: RegisteredGpu, worker: Worker, heartbeat: Heartbeat
) -> None:
    scheduler.fleet.worker_gone(worker.id)
    assert gpu.claim() is None
    wait_for(lambda: scheduler.fleet.gpu(gpu.info.id).workers == (worker,), "the worker to be back")
    submit(scheduler)
    assert gpu.must_claim().worker_id == worker.id


def test_it_registers_what_the_worker_has_become(
    scheduler: Scheduler, gpu: RegisteredGpu, worker: Worker, heartbeat: Heartbeat
) -> None:
    now = Worker(worker.id, worker.gpu_id, worker.pid, worker.model, resident_bytes=123, ready=True)
    heartbeat.became(now)
    scheduler.fleet.worker_gone(worker.id)
    wait_for(lambda: scheduler.fleet.gpu(gpu.info.id).workers == (now,), "the worker to be back as it is now")


@pytest.mark.parametrize(
    "error",
    [StoreUnreachable("it restarts"), NotFound("no GPU GPU-0"), ValueError("a bug")],
    ids=["store away", "GPU forgotten", "anything else"],
)
def test_it_survives_a_report_that_fails(
    error: Exception, scheduler: Scheduler, begin: Begin, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, control, pulse = begin()
    with capture_logs() as logged:
        with monkeypatch.context() as patch:
            failures = _count(patch, scheduler.leases, "report", error=error)
            pulse.progress(_step(3))
            wait_for(lambda: failures() >= 2, "two reports to fail")
        wait_for(lambda: _shown(scheduler, lease) == _step(3), "the report to arrive")
    assert {entry["log_level"] for entry in logged} <= {"warning", "error"}
    assert len(logged) >= 2
    control.check()


def test_after_end_nothing_is_reported(
    scheduler: Scheduler, begin: Begin, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`end` waits for a report that is under way, so that none can follow the end of the attempt."""
    under_way, let_go = threading.Event(), threading.Event()
    report, reported = scheduler.leases.report, []

    def slow(lease: Lease, progress: Progress, checkpoint: Checkpoint | None = None) -> Directive:
        under_way.set()
        assert let_go.wait(10)
        reported.append(progress)
        return report(lease, progress, checkpoint)

    _, _, pulse = begin()
    monkeypatch.setattr(scheduler.leases, "report", slow)
    pulse.progress(_step(9))
    assert under_way.wait(10)
    ending = threading.Thread(target=heartbeat.end, args=[pulse])
    ending.start()
    ending.join(0.1)
    assert ending.is_alive()
    let_go.set()
    ending.join(10)
    assert not ending.is_alive()
    before = len(reported)
    pulse.progress(_step(10))
    touches = _count(monkeypatch, scheduler.fleet, "touch_worker")
    wait_for(lambda: touches() >= 2, "two signs of life")
    assert len(reported) == before


def test_each_lease_has_its_own_pulse(scheduler: Scheduler, begin: Begin, heartbeat: Heartbeat) -> None:
    first, _, first_pulse = begin()
    second, control, second_pulse = begin()
    first_pulse.progress(_step(50))
    second_pulse.progress(_step(1))
    wait_for(lambda: _shown(scheduler, second) == _step(1), "the second's progress")
    wait_for(lambda: _shown(scheduler, first) == _step(50), "the first's progress")
    heartbeat.end(first_pulse)
    scheduler.leases.release(first)
    second_pulse.progress(_step(2))
    wait_for(lambda: _shown(scheduler, second) == _step(2), "the second to go on")
    control.check()


def test_a_checkpoint_is_named_with_the_next_report_and_once(
    scheduler: Scheduler, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, _, pulse = begin()
    named: list[Checkpoint] = []
    report = scheduler.leases.report

    def noting(lease: Lease, progress: Progress, checkpoint: Checkpoint | None = None) -> Directive:
        named.extend([checkpoint] if checkpoint else [])
        return report(lease, progress, checkpoint)

    monkeypatch.setattr(scheduler.leases, "report", noting)
    saved = Checkpoint(f"jobs/{lease.job_id}/1/checkpoint_7.safetensors", 7, "f" * 64, "fp16", 1000)
    pulse.saved(saved)
    wait_for(lambda: pulse.named == saved, "the checkpoint to be named")
    pulse.progress(_step(8))
    wait_for(lambda: _shown(scheduler, lease) == _step(8), "another report")
    assert named == [saved]
    assert scheduler.queue.get(lease.job_id).checkpoint_step == 7


def test_it_goes_on_through_shutdown_until_it_is_closed(
    scheduler: Scheduler, gpu: RegisteredGpu, worker: Worker
) -> None:
    heartbeat = Heartbeat(worker, scheduler.fleet, scheduler.leases, _LEASE_SECONDS / 4)
    heartbeat.start()
    shutdown = threading.Event()
    submit(scheduler)
    lease = gpu.must_claim()
    heartbeat.begin(lease, Control(shutdown), _step(1))
    shutdown.set()
    before = _expires_at(scheduler)
    wait_for(lambda: _expires_at(scheduler) > before, "an extension during shutdown")
    heartbeat.close()
    with pytest.MonkeyPatch.context() as patch:
        beats = [_count(patch, scheduler.fleet, "touch_worker"), _count(patch, scheduler.leases, "report")]
        assert "heartbeat" not in [thread.name for thread in threading.enumerate()]
        assert [beat() for beat in beats] == [0, 0]


def _step(step: int) -> Progress:
    return Progress(Stage.DENOISING, step, PARAMS.num_inference_steps, step / PARAMS.num_inference_steps)


def _expires_at(scheduler: Scheduler) -> float:
    (lease,) = scheduler.fleet.gpu("GPU-0").leases
    return lease.expires_at


def _shown(scheduler: Scheduler, lease: Lease) -> Progress | None:
    return scheduler.queue.get(lease.job_id).progress


def _cause(control: Control) -> Cause | None:
    try:
        control.check()
    except Interrupted as interrupted:
        return interrupted.cause
    return None


def _count(
    patch: pytest.MonkeyPatch, service: object, method: str, *, error: Exception | None = None
) -> Callable[[], int]:
    """Count the calls of a method from now on, which fail with `error` where one is given."""
    real, calls = getattr(service, method), []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        if error is not None:
            raise error
        return real(*arguments)

    patch.setattr(service, method, counted)
    return lambda: len(calls)
