"""The supervisor's loop: what it records of a GPU, and what it does while the store is away."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from scheduler.errors import StoreUnreachable
from scheduler.records import GpuSample, Worker
from scheduler.samples import Level
from scheduler.service import Scheduler
from scheduler.states import GpuState
from tests.support.databases import sqlite_template
from tests.support.fleet import MODEL, gpu_info
from workers.devices import DeviceFault, DeviceInfo, DeviceLost, DeviceReading, ProbeFailing
from workers.settings import WorkerSettings
from workers.supervisor import Supervisor, describe

__all__ = ["sqlite_template"]

_GIB = 2**30
_AWAY = StoreUnreachable("the database cannot be used: it restarts")
_READING = DeviceReading("GPU-0", 24 * _GIB, 3 * _GIB, 21 * _GIB, {}, 95.0, 70.0, 250.0)


class FakeProbe:
    """Answers what the test wants; the loop ends when it has no more to say."""

    def __init__(
        self, stopping: threading.Event, answers: list[DeviceReading | Exception], faults: list[DeviceFault | Exception]
    ) -> None:
        self._stopping = stopping
        self._answers = answers
        self._faults = faults

    def faults(self) -> tuple[DeviceFault, ...]:
        fault = self._faults.pop(0) if self._faults else None
        if isinstance(fault, Exception):
            raise fault
        return () if fault is None else (fault,)

    def read(self, _device_id: str) -> DeviceReading:
        answer = self._answers.pop(0)
        if not self._answers:
            self._stopping.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeSlot:
    """Notes what it is told; `tend`, `evict` or `finish` may fail, `evict` once."""

    leaving = False
    ended = False

    def __init__(self, gpu_id: str = "GPU-0", *, ghost: str | None = None, **failing: Exception) -> None:
        self.device = DeviceInfo(gpu_id, "NVIDIA T4", "Tesla T4", 24 * _GIB, 0)
        self.tended: list[DeviceReading | None] = []
        self.told: list[str] = []
        self._ghost = ghost
        self._failing = failing

    def ghost(self, _reading: DeviceReading) -> str | None:
        return self._ghost

    def evict(self) -> None:
        self.told.append("evict")
        if "evict" in self._failing:
            raise self._failing.pop("evict")

    def tend(self, reading: DeviceReading | None) -> None:
        self.tended.append(reading)
        if "tend" in self._failing:
            raise self._failing["tend"]

    def stop(self) -> None:
        self.told.append("stop")

    def finish(self, _grace_seconds: float) -> None:
        self.told.append("finish")
        if "finish" in self._failing:
            raise self._failing["finish"]


Run = Callable[..., None]


@pytest.fixture
def scheduler(tmp_path: Path, sqlite_template: Path) -> Iterator[Scheduler]:
    (tmp_path / "reelq.db").write_bytes(sqlite_template.read_bytes())
    with Scheduler.open(WorkerSettings(data_dir=tmp_path)) as scheduler:
        scheduler.fleet.register(MODEL, [gpu_info("GPU-0")])
        yield scheduler


@pytest.fixture
def run(scheduler: Scheduler, tmp_path: Path) -> Run:
    """Run the loop over some answers of the probe, each of which is due to be recorded."""

    def register() -> None:
        scheduler.fleet.register(MODEL, [gpu_info("GPU-0")])

    def loop(
        slots: list[FakeSlot],
        answers: list[DeviceReading | Exception],
        faults: Sequence[DeviceFault | Exception] = (),
    ) -> None:
        stopping = threading.Event()
        settings = WorkerSettings(data_dir=tmp_path, poll_seconds=0.001, sample_seconds=1e-9)
        probe = FakeProbe(stopping, answers, list(faults))
        supervisor = Supervisor(settings, scheduler, probe, slots, register)  # type: ignore[arg-type]  # as far as it goes
        supervisor.run(stopping)

    return loop


def test_a_reading_is_recorded_and_handed_to_the_slot(scheduler: Scheduler, run: Run) -> None:
    slot = FakeSlot()
    run([slot], [_READING])
    look = GpuSample(3 * _GIB, 21 * _GIB, 95.0, 70.0, foreign_bytes=3 * _GIB, power_watts=250.0)
    assert scheduler.fleet.gpu("GPU-0").sample == look
    assert slot.tended == [_READING]
    assert slot.told == ["stop", "finish"]


def test_a_reading_is_a_sample_with_what_strangers_hold(scheduler: Scheduler, run: Run) -> None:
    scheduler.fleet.register_worker(Worker("w", "GPU-0", 4711, MODEL.id, 2 * _GIB, ready=True))
    run([FakeSlot()], [_READING, _READING, ProbeFailing("GPU GPU-0 memory: Unknown Error")])
    points = scheduler.samples.series("GPU-0", until=time.time() + 60).points
    assert (sum(point.samples for point in points), sum(point.problems for point in points)) == (3, 1)
    (last, *_) = [point for point in points if point.used_bytes]
    assert (last.used_bytes, last.foreign_bytes) == (Level(3 * _GIB, 3 * _GIB), Level(_GIB, _GIB))
    assert (last.reserved_bytes, last.power_watts) == (Level(2 * _GIB, 2 * _GIB), Level(250.0, 250.0))


def test_memory_that_is_not_known_is_a_problem_and_no_number(scheduler: Scheduler, run: Run) -> None:
    slot = FakeSlot()
    run([slot], [_READING, ProbeFailing("GPU GPU-0 memory: Unknown Error")])
    gpu = scheduler.fleet.gpu("GPU-0")
    assert gpu.sample == GpuSample(None, None, problem="GPU GPU-0 memory: Unknown Error")
    assert gpu.state is GpuState.ACTIVE
    assert slot.tended == [_READING, None]


def test_a_lost_gpu_is_faulted_with_the_reason_and_stays_so(scheduler: Scheduler, run: Run) -> None:
    run([FakeSlot()], [DeviceLost("GPU GPU-0: GPU is lost"), _READING])
    gpu = scheduler.fleet.gpu("GPU-0")
    assert (gpu.state, gpu.reason, gpu.actor) == (GpuState.FAULTED, "GPU GPU-0: GPU is lost", "supervisor")
    assert gpu.sample.problem is None


def test_a_fault_that_the_driver_tells_of_ends_the_workers_and_lasts(scheduler: Scheduler, run: Run) -> None:
    slots = [FakeSlot(), FakeSlot()]
    run(slots, [_READING, _READING], [DeviceFault("GPU-0", "Xid 48: double-bit ECC error")])
    gpu = scheduler.fleet.gpu("GPU-0")
    assert (gpu.state, gpu.reason) == (GpuState.FAULTED, "Xid 48: double-bit ECC error")
    assert [slot.told for slot in slots] == [["evict", "stop", "finish"]] * 2
    assert [len(slot.tended) for slot in slots] == [2, 2]
    assert gpu.sample.free_bytes == 21 * _GIB


def test_once_resumed_a_gpu_is_not_faulted_again_for_the_same_event(scheduler: Scheduler, run: Run) -> None:
    run([FakeSlot()], [_READING], [DeviceFault("GPU-0", "Xid 48: double-bit ECC error")])
    scheduler.fleet.resume("GPU-0", "operator")
    run([FakeSlot()], [_READING])
    assert scheduler.fleet.gpu("GPU-0").state is GpuState.ACTIVE


def test_a_draining_gpu_that_breaks_goes_on_draining_without_its_worker(scheduler: Scheduler, run: Run) -> None:
    scheduler.fleet.register_worker(Worker("w", "GPU-0", 4711, MODEL.id, _GIB, ready=True))
    scheduler.fleet.drain("GPU-0", "new fans", "operator")
    slot = FakeSlot()
    run([slot], [DeviceLost("GPU GPU-0: GPU is lost")])
    gpu = scheduler.fleet.gpu("GPU-0")
    assert (gpu.state, gpu.reason) == (GpuState.DRAINING, "new fans")
    assert slot.told == ["evict", "stop", "finish"]


def test_a_fault_is_remembered_until_the_store_knows_it(scheduler: Scheduler, run: Run) -> None:
    slot = FakeSlot(evict=_AWAY)
    run([slot], [_READING, _READING], [DeviceFault("GPU-0", "Xid 79: GPU has fallen off the bus")])
    assert slot.told == ["evict", "evict", "stop", "finish"]
    assert scheduler.fleet.gpu("GPU-0").state is GpuState.FAULTED


def test_a_fault_of_a_gpu_that_is_not_served_here_is_nobodys(scheduler: Scheduler, run: Run) -> None:
    slot = FakeSlot()
    run([slot], [_READING], [DeviceFault("GPU-9", "Xid 79: GPU has fallen off the bus")])
    assert slot.told == ["stop", "finish"]


def test_when_faults_cannot_be_heard_of_the_readings_still_count(scheduler: Scheduler, run: Run) -> None:
    slot = FakeSlot()
    run([slot], [_READING], [ProbeFailing("events of GPUs: Unknown Error")])
    assert slot.tended == [_READING]


def test_a_drained_gpu_whose_memory_may_not_be_free_says_so(scheduler: Scheduler, run: Run) -> None:
    why = "the worker process 4711 has ended, and the driver still lists it"
    slots = [FakeSlot(ghost=why), FakeSlot()]
    run(slots, [_READING])
    assert scheduler.fleet.gpu("GPU-0").sample.problem is None, "an active GPU offers what is measured to be free"
    scheduler.fleet.drain("GPU-0", "new fans", "operator")
    run(slots, [_READING])
    gpu = scheduler.fleet.gpu("GPU-0")
    assert gpu.state is GpuState.DRAINED
    assert gpu.sample == GpuSample(None, None, problem=why)


def test_the_log_tells_once_that_strangers_hold_memory(scheduler: Scheduler, run: Run) -> None:
    scheduler.fleet.register_worker(Worker("w", "GPU-0", 4711, MODEL.id, 2 * _GIB, ready=True))
    crowded = replace(_READING, used_bytes=6 * _GIB, free_bytes=18 * _GIB, processes={4711: 2 * _GIB, 99: 4 * _GIB})
    with capture_logs() as logs:
        run([FakeSlot()], [_READING, crowded, crowded, _READING, _READING])
    told = [(entry["event"], entry["foreign_bytes"]) for entry in logs if "foreign_bytes" in entry]
    assert told == [
        ("others hold memory of this GPU", 4 * _GIB),
        ("others hold no memory of this GPU any more", _GIB),
    ]


def test_a_gpu_that_was_forgotten_is_registered_again(scheduler: Scheduler, run: Run) -> None:
    """The host was cut off from the store for longer than the fleet remembers a GPU."""
    slot = FakeSlot()
    with scheduler.database.write() as conn:
        conn.exec_driver_sql("DELETE FROM gpus")
    run([slot], [_READING, _READING])
    assert scheduler.fleet.gpu("GPU-0").sample.used_bytes == 3 * _GIB
    assert slot.tended == [_READING], "the round in which it was missed was lost"


def test_a_store_that_is_away_costs_a_round_and_no_worker(scheduler: Scheduler, run: Run) -> None:
    scheduler.fleet.register(MODEL, [gpu_info("GPU-1")])
    failing, healthy = FakeSlot(tend=_AWAY), FakeSlot("GPU-1")
    run([failing, healthy], [_READING] * 4)
    assert (failing.tended, healthy.tended) == ([_READING] * 2, [_READING] * 2)


def test_every_worker_is_ended_although_the_store_is_away(run: Run) -> None:
    slots = [FakeSlot(finish=_AWAY), FakeSlot()]
    run(slots, [_READING])
    assert [slot.told for slot in slots] == [["stop", "finish"]] * 2


def test_a_host_registers_what_its_workers_run_on_each_kind_of_device(tmp_path: Path) -> None:
    devices = [
        DeviceInfo("GPU-0", "NVIDIA T4", "Tesla T4", 15 * _GIB, 0),
        DeviceInfo("MIG-a", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", 40 * _GIB, 1),
    ]
    settings = WorkerSettings(data_dir=tmp_path, model="tiny", plans="fp16-chunked, fp16")
    model, gpus = describe(settings, devices)
    assert [(gpu.id, gpu.kind, gpu.model, gpu.plans) for gpu in gpus] == [
        ("GPU-0", "NVIDIA T4", model.id, ("fp16", "fp16-chunked")),
        ("MIG-a", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", model.id, ("fp16", "fp16-chunked")),
    ]
