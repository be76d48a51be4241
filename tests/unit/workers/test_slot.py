"""A GPU's slot: when it starts a worker, what it does about an end, and when it gives a GPU up."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scheduler import ids
from scheduler.errors import StoreUnreachable
from scheduler.params import VideoParams
from scheduler.processes import Backoff
from scheduler.records import JobError, Lease, NewJob, Progress, Worker
from scheduler.service import Scheduler
from scheduler.states import GpuState, JobStatus, OnDeadline, Outcome, Stage
from tests.support.databases import Clock, clock, sqlite_template
from tests.support.fleet import MODEL, gpu_info
from workers import last_words
from workers import slot as module
from workers.devices import DeviceInfo, DeviceReading
from workers.settings import WorkerSettings
from workers.slot import ModelUnusable, Slot

__all__ = ["clock", "sqlite_template"]

_GPU = DeviceInfo("GPU-0", "NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3090", 24 * 2**30, 0)


@dataclass
class FakeChild:
    """A process that ends when the test says so."""

    command: Sequence[str]
    environment: Mapping[str, str]
    pid: int
    code: int | None = None
    asked_to_end: bool = False
    closed: bool = False
    ready: threading.Event = field(default_factory=threading.Event)

    @property
    def worker_id(self) -> str:
        return self.command[self.command.index("--worker-id") + 1]

    def exit_code(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.asked_to_end = True

    def finish(self, grace_seconds: float) -> int:
        self.close()
        return 0 if self.code is None else self.code

    def close(self) -> None:
        self.closed = True


class Bench:
    """One slot on a real store, with fake processes and a clock that the test moves."""

    def __init__(self, scheduler: Scheduler, settings: WorkerSettings) -> None:
        self.scheduler = scheduler
        self.settings = settings
        self.slot = Slot(settings, scheduler, _GPU)
        self.children: list[FakeChild] = []
        self.killed: list[int] = []
        self.seconds = 1000.0

    def spawn(self, command: Sequence[str], environment: Mapping[str, str]) -> FakeChild:
        self.children.append(FakeChild(command, environment, pid=1000 + len(self.children)))
        return self.children[-1]

    def kill(self, pid: int, number: int) -> None:
        """What the slot kills; its job must have been taken back by then."""
        assert number == signal.SIGKILL
        assert self.scheduler.fleet.gpu(_GPU.id).leases == ()
        self.killed.append(pid)

    def tend(self, *holding: int) -> None:
        """One look at the GPU, whose memory these processes hold."""
        self.slot.tend(self.reading(*holding))

    def reading(self, *holding: int) -> DeviceReading:
        """What the probe says while these processes hold memory."""
        return DeviceReading(_GPU.id, _GPU.total_bytes, 0, _GPU.total_bytes, dict.fromkeys(holding, 1), *_NONE)

    def fail_to_start(self, code: int = 1) -> None:
        """Let the next worker start, and end before it is ready."""
        self.seconds += 60
        self.tend()
        self.children[-1].code = code
        self.tend()

    def live(self, seconds: float = 59.0, *, code: int = -11, take: bool = False) -> None:
        """Let the next worker start, become ready, claim what waits if it is to, and end after `seconds`."""
        self.seconds += 60
        self.tend()
        self.children[-1].ready.set()
        self.tend()
        if take:
            self.claim()
        self.seconds += seconds
        self.children[-1].code = code
        self.tend()

    def submit(self) -> str:
        """Put a job into the queue and return its id."""
        job_id = ids.new_id("job")
        params = VideoParams(256, 256, 8, 10, 9.0, 8, 1)
        self.scheduler.queue.submit(NewJob(job_id, MODEL.id, "a cat", params, f"jobs/{job_id}/image.png"))
        return job_id

    def claim(self) -> Lease:
        """Have the running worker register and claim the job that waits."""
        worker = Worker(self.children[-1].worker_id, _GPU.id, self.children[-1].pid, MODEL.id, 2**30, ready=True)
        self.scheduler.fleet.register_worker(worker)
        lease = self.scheduler.queue.claim(worker.id, _GPU.id, _GPU.total_bytes)
        assert lease is not None
        return lease

    def lease(self) -> Lease:
        """Have the running worker claim a new job."""
        self.submit()
        return self.claim()

    @property
    def state(self) -> GpuState:
        return self.scheduler.fleet.gpu(_GPU.id).state


_NONE: tuple[Any, ...] = (None, None, None)


@pytest.fixture
def bench(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "reelq.db").write_bytes(sqlite_template.read_bytes())
    settings = WorkerSettings(data_dir=tmp_path)
    with Scheduler.open(settings) as scheduler:
        scheduler.fleet.register(MODEL, [gpu_info(_GPU.id)])
        bench = Bench(scheduler, settings)
        monkeypatch.setattr(module, "Child", bench.spawn)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: bench.seconds))
        monkeypatch.setattr(module, "os", SimpleNamespace(environ=os.environ, kill=bench.kill))
        yield bench


def test_an_active_gpu_gets_one_worker_that_owns_it(bench: Bench) -> None:
    bench.tend()
    bench.tend()
    (child,) = bench.children
    assert bench.slot.pid == child.pid
    assert child.command[1:6] == ["-m", "workers", "gpu-worker", "--gpu", "GPU-0"]
    assert child.command[6:] == ["--slot", "0", "--worker-id", child.worker_id]
    assert child.environment["CUDA_VISIBLE_DEVICES"] == "GPU-0"


def test_a_cpu_worker_does_not_spin_while_it_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.slot, "device", replace(_GPU, kind="cpu"))
    bench.tend()
    assert bench.children[0].environment["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("leave", ["drain", "fault"])
def test_a_gpu_out_of_service_gets_none_until_it_is_resumed(leave: str, bench: Bench) -> None:
    if leave == "drain":
        bench.scheduler.fleet.drain(_GPU.id, "new fans", "operator")
    else:
        bench.scheduler.fleet.fault(_GPU.id, "fell off the bus")
    bench.tend()
    assert bench.children == []
    bench.scheduler.fleet.resume(_GPU.id, "operator")
    bench.tend()
    assert len(bench.children) == 1


def test_a_dead_workers_job_goes_back_at_once_and_the_next_worker_waits_for_the_memory(bench: Bench) -> None:
    bench.tend()
    first = bench.children[0]
    first.ready.set()
    lease = bench.lease()
    first.code = -9
    bench.tend(first.pid)  # the driver still shows it
    job = bench.scheduler.queue.get(lease.job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 1)
    assert [each.outcome for each in bench.scheduler.queue.attempts(job.id)] == [Outcome.EXPIRED]
    assert first.closed
    assert len(bench.children) == 1
    bench.tend()  # the memory is back
    assert bench.scheduler.fleet.gpu(_GPU.id).workers == ()
    bench.seconds += 0.5
    bench.tend()
    assert len(bench.children) == 2
    assert bench.children[1].worker_id != first.worker_id


def test_a_driver_that_never_gives_memory_back_does_not_hold_the_slot_for_ever(bench: Bench) -> None:
    bench.tend()
    bench.children[0].ready.set()
    bench.children[0].code = -9
    bench.slot.tend(None)  # nothing is known of the memory
    bench.seconds += 9.0
    bench.tend(bench.children[0].pid)
    assert bench.slot.pid == bench.children[0].pid
    bench.seconds += 2.0
    pid = bench.children[0].pid
    bench.tend(pid)
    assert bench.slot.pid is None
    assert bench.slot.ghost(bench.reading(pid)) == f"the worker process {pid} has ended, and the driver still lists it"
    assert bench.slot.ghost(bench.reading()) is None
    assert bench.slot.ghost(bench.reading(pid)) is None, "a process may get the same id"


def test_drained_means_that_the_memory_is_free(bench: Bench) -> None:
    bench.tend()
    child = bench.children[0]
    child.ready.set()
    lease = bench.lease()
    bench.scheduler.fleet.drain(_GPU.id, "new fans", "operator")
    bench.tend(child.pid)
    assert bench.state is GpuState.DRAINING
    bench.scheduler.leases.release(lease)
    child.code = 0
    bench.tend(child.pid)
    assert bench.state is GpuState.DRAINING
    bench.tend()
    assert bench.state is GpuState.DRAINED
    bench.tend()
    assert len(bench.children) == 1


def test_with_two_workers_on_a_gpu_drained_means_that_the_memory_of_both_is_free(bench: Bench) -> None:
    other = Slot(bench.settings, bench.scheduler, _GPU, number=1)
    for slot in (bench.slot, other):
        slot.tend(bench.reading())
        bench.lease()
    first, second = bench.children
    assert [child.command[6:8] for child in bench.children] == [["--slot", "0"], ["--slot", "1"]]
    assert first.worker_id != second.worker_id
    bench.scheduler.fleet.drain(_GPU.id, "new fans", "operator")
    for child in (first, second):
        bench.scheduler.leases.release_worker(child.worker_id)
        child.code = 0
    for listed in ([first.pid, second.pid], [second.pid]):
        for slot in (bench.slot, other):
            slot.tend(bench.reading(*listed))
        assert bench.state is GpuState.DRAINING
    other.tend(bench.reading())
    assert bench.state is GpuState.DRAINED
    for slot in (bench.slot, other):
        slot.tend(bench.reading())
    assert len(bench.children) == 2


def test_a_broken_gpus_worker_is_killed_and_its_job_loses_no_attempt(bench: Bench) -> None:
    bench.tend()
    lease = bench.lease()
    bench.scheduler.fleet.fault(_GPU.id, "Xid 79: GPU has fallen off the bus")
    bench.slot.evict()
    assert bench.killed == [bench.children[0].pid]
    job = bench.scheduler.queue.get(lease.job_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    assert [each.outcome for each in bench.scheduler.queue.attempts(job.id)] == [Outcome.RELEASED]
    bench.children[0].code = -9
    bench.tend()
    bench.tend()
    assert len(bench.children) == 1
    bench.scheduler.fleet.resume(_GPU.id, "operator")
    bench.tend()
    assert len(bench.children) == 2, "without a wait: the worker was not to blame"


def test_a_worker_that_its_broken_gpu_has_ended_gives_its_job_back_the_same_way(bench: Bench) -> None:
    bench.tend()
    lease = bench.lease()
    bench.children[0].code = 1
    assert bench.slot.ended
    bench.slot.evict()
    bench.tend(bench.children[0].pid)
    assert not bench.slot.ended
    bench.slot.evict()
    assert bench.killed == []
    assert bench.scheduler.queue.get(lease.job_id).attempts == 0


def look_for(bench: Bench, clock: Clock, seconds: float, lease: Lease | None = None) -> None:
    """Let time pass, in the store and here, while the slot looks and the worker is heard where it holds a `lease`."""
    until = clock.seconds + seconds
    while clock.seconds < until:
        clock.advance(5)
        bench.seconds += 5
        if lease is not None and not bench.killed:
            bench.scheduler.leases.report(lease, Progress(Stage.DENOISING, 3, 10, 0.3))
        bench.tend(bench.children[-1].pid)


def test_a_hung_worker_is_killed_after_its_job_was_taken_back_and_replaced(clock: Clock, bench: Bench) -> None:
    bench.tend()
    stuck = bench.children[0]
    stuck.ready.set()
    lease = bench.lease()
    look_for(bench, clock, 125, lease)
    assert bench.killed == []
    look_for(bench, clock, 5, lease)
    assert bench.killed == [stuck.pid]
    (attempt,) = bench.scheduler.queue.attempts(lease.job_id)
    why = "no progress for 125 s, limit 120 s, at denoising, step 3 of 10"
    assert (attempt.outcome, attempt.error) == (Outcome.EXPIRED, JobError("worker_hung", why))
    look_for(bench, clock, 50)
    assert bench.killed == [stuck.pid], "once: a process may be slow to end"
    stuck.code = -9
    bench.tend()
    bench.tend()
    assert len(bench.children) == 2
    assert bench.state is GpuState.ACTIVE


def test_a_hung_worker_that_keeps_others_from_writing_is_killed_first(
    clock: Clock, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is stopped in the middle of a write holds SQLite's lock until it ends."""
    bench.tend()
    stuck = bench.children[0]
    stuck.ready.set()
    lease = bench.lease()
    monkeypatch.setattr(module.os, "kill", lambda pid, _number: bench.killed.append(pid))
    with monkeypatch.context() as patch:
        patch.setattr(bench.scheduler.leases, "expire_worker", _away)
        look_for(bench, clock, 130, lease)
    assert bench.killed == [stuck.pid]
    assert bench.scheduler.queue.get(lease.job_id).status is JobStatus.RUNNING
    stuck.code = -9
    bench.tend()
    (attempt,) = bench.scheduler.queue.attempts(lease.job_id)
    assert (attempt.outcome, attempt.error and attempt.error.code) == (Outcome.EXPIRED, "worker_hung")


def test_a_worker_that_moves_is_left_alone_however_slow(clock: Clock, bench: Bench) -> None:
    bench.tend()
    lease = bench.lease()
    for step in range(1, 6):
        look_for(bench, clock, 110, lease)
        bench.scheduler.leases.report(lease, Progress(Stage.DENOISING, step + 3, 10, step / 10 + 0.3))
    assert bench.killed == []


def test_a_process_that_lives_but_is_silent_is_killed(clock: Clock, bench: Bench) -> None:
    """Stopped, or stuck where even its heartbeat cannot run."""
    bench.tend()
    look_for(bench, clock, 100)
    assert bench.killed == [], "it has not registered yet"
    bench.lease()
    bench.children[0].ready.set()
    look_for(bench, clock, 30)
    assert bench.killed == []
    look_for(bench, clock, 5)
    assert bench.killed == [bench.children[0].pid]


def test_a_condemned_worker_is_killed_at_once(clock: Clock, bench: Bench) -> None:
    bench.tend()
    lease = bench.lease()
    bench.scheduler.fleet.drain(_GPU.id, "new fans", "operator", deadline_seconds=1.0, on_deadline=OnDeadline.KILL)
    clock.advance(1)
    assert bench.scheduler.reaper.run_once().overdue_gpus == [_GPU.id]
    bench.seconds += 0.5
    bench.tend()
    assert bench.killed == [bench.children[0].pid]
    assert bench.scheduler.queue.get(lease.job_id).attempts == 0
    bench.children[0].code = -9
    bench.tend()
    assert bench.state is GpuState.DRAINED
    assert len(bench.children) == 1


def test_the_store_is_not_asked_at_every_wakeup(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.tend()
    looks: list[str] = []
    look = bench.scheduler.fleet.look_at_worker
    monkeypatch.setattr(
        type(bench.scheduler.fleet), "look_at_worker", lambda _fleet, *ids: looks.append(ids[1]) or look(*ids)
    )
    for _ in range(10):
        bench.tend()
    assert len(looks) == 1
    bench.seconds += 0.5
    bench.tend()
    assert len(looks) == 2


def test_starts_that_fail_are_spaced_out_and_then_fault_the_gpu(bench: Bench) -> None:
    waits = []
    while bench.state is GpuState.ACTIVE and len(bench.children) < 10:
        bench.tend()
        bench.children[-1].code = 1
        bench.tend()
        started, ended_at = len(bench.children), bench.seconds
        while bench.state is GpuState.ACTIVE and len(bench.children) == started:
            bench.seconds += 0.25
            bench.tend()
        waits.append(bench.seconds - ended_at)
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    gpu = bench.scheduler.fleet.gpu(_GPU.id)
    assert (gpu.state, gpu.actor) == (GpuState.FAULTED, "supervisor")
    assert gpu.reason == "5 workers in a row ended before they had been ready for 60 s, the last with exit code 1"
    assert len(bench.children) == 5
    bench.seconds += 3600
    bench.tend()
    assert len(bench.children) == 5


def test_a_resumed_gpu_has_all_its_starts_again(bench: Bench) -> None:
    for _ in range(5):
        bench.fail_to_start()
    assert bench.state is GpuState.FAULTED
    bench.scheduler.fleet.resume(_GPU.id, "operator")
    for _ in range(4):
        bench.fail_to_start()
    assert bench.state is GpuState.ACTIVE
    bench.fail_to_start()
    assert bench.state is GpuState.FAULTED


def test_the_reason_has_the_last_line_that_the_worker_left(bench: Bench) -> None:
    for number in range(5):
        bench.seconds += 60
        bench.tend()
        worker_id = bench.children[-1].worker_id
        last_words.leave(bench.settings.data_dir, worker_id, f"device cuda: torch finds no GPU ({number})\nTraceback")
        bench.children[-1].code = 1
        bench.tend()
    reason = bench.scheduler.fleet.gpu(_GPU.id).reason or ""
    assert reason.endswith("the last with exit code 1: device cuda: torch finds no GPU (4)")
    assert last_words.take(bench.settings.data_dir, worker_id) is None


def test_workers_that_die_soon_after_they_are_ready_are_a_loop_too(bench: Bench) -> None:
    for _ in range(4):
        bench.live(59.0)
    assert bench.state is GpuState.ACTIVE
    bench.live(59.0)
    reason = bench.scheduler.fleet.gpu(_GPU.id).reason
    assert reason == "5 workers in a row ended before they had been ready for 60 s, the last with signal 11"


def test_a_worker_that_leaves_an_active_gpu_again_and_again_is_a_loop_too(bench: Bench) -> None:
    for _ in range(5):
        bench.live(1.0, code=0)
    assert bench.state is GpuState.FAULTED


def test_a_worker_that_lasted_makes_an_end_of_the_count(bench: Bench) -> None:
    for _ in range(4):
        bench.fail_to_start()
    bench.live(60.0)
    assert bench.slot._backoff == Backoff()
    bench.tend()
    assert len(bench.children) == 6, "it is replaced at once"
    bench.children[-1].code = 1
    bench.tend()
    for _ in range(3):
        bench.fail_to_start()
    assert bench.state is GpuState.ACTIVE


def test_a_job_that_kills_every_worker_is_not_the_gpus_fault(clock: Clock, bench: Bench) -> None:
    job_id = bench.submit()
    for _ in range(3):
        bench.live(1.0, take=True)
        clock.advance(60)
    assert bench.scheduler.queue.get(job_id).status is JobStatus.FAILED
    for _ in range(3):
        bench.live(1.0)
    assert bench.state is GpuState.ACTIVE, "all that it killed count once"
    bench.live(1.0)
    assert bench.state is GpuState.FAULTED


def test_a_gpu_on_which_each_job_kills_its_worker_is_a_loop(bench: Bench) -> None:
    for _ in range(5):
        bench.submit()
        bench.live(1.0, take=True)
    assert bench.state is GpuState.FAULTED


def test_a_process_that_cannot_be_made_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "Child", _no_process)
        bench.tend()
    assert bench.slot.pid is None
    bench.tend()
    assert bench.children == [], "not at once"
    bench.seconds += 0.5
    bench.tend()
    assert len(bench.children) == 1


def test_a_model_that_can_never_load_ends_the_supervisor(bench: Bench) -> None:
    bench.tend()
    bench.children[0].code = 78
    with pytest.raises(ModelUnusable):
        bench.tend()
    assert bench.state is GpuState.ACTIVE


def test_a_store_that_is_away_loses_neither_the_end_nor_the_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.tend()
    bench.children[0].ready.set()
    lease = bench.lease()
    bench.children[0].code = -9
    with monkeypatch.context() as patch:
        patch.setattr(bench.scheduler.leases, "expire_worker", _away)
        for _ in range(3):
            with pytest.raises(StoreUnreachable):
                bench.tend()
    bench.tend()
    assert bench.scheduler.queue.get(lease.job_id).status is JobStatus.QUEUED
    bench.seconds += 0.5
    bench.tend()
    assert len(bench.children) == 2


def test_the_end_asked_for_takes_back_what_the_worker_held(bench: Bench) -> None:
    bench.tend()
    lease = bench.lease()
    bench.slot.stop()
    assert bench.children[0].asked_to_end
    bench.slot.finish(0.0)
    assert bench.children[0].closed
    assert bench.slot.pid is None
    assert bench.scheduler.queue.get(lease.job_id).status is JobStatus.QUEUED
    assert bench.scheduler.fleet.gpu(_GPU.id).workers == ()


def test_a_slot_without_a_worker_has_nothing_to_end(bench: Bench) -> None:
    bench.slot.stop()
    bench.slot.finish(0.0)
    assert bench.slot.pid is None


def _no_process(*_: object) -> None:
    raise BlockingIOError("Resource temporarily unavailable")


def _away(*_arguments: object) -> list[str]:
    raise StoreUnreachable("the database cannot be used: it restarts")
