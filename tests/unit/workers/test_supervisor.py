"""The supervisor's loop: what it records of a GPU, and what it does while the store is away."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scheduler.errors import StoreUnreachable
from scheduler.records import GpuSample
from scheduler.service import Scheduler
from scheduler.states import GpuState
from tests.support.databases import sqlite_template
from tests.support.fleet import MODEL, gpu_info
from workers.devices import DeviceInfo, DeviceLost, DeviceReading, ProbeFailing
from workers.settings import WorkerSettings
from workers.supervisor import Supervisor

__all__ = ["sqlite_template"]

_GIB = 2**30
_READING = DeviceReading("GPU-0", 24 * _GIB, 3 * _GIB, 21 * _GIB, {}, 95.0, 70.0, None)


class FakeProbe:
    """Answers what the test wants; the loop ends when it has no more to say."""

    def __init__(self, stopping: threading.Event, answers: list[DeviceReading | Exception]) -> None:
        self._stopping = stopping
        self._answers = answers

    def read(self, _device_id: str) -> DeviceReading:
        answer = self._answers.pop(0)
        if not self._answers:
            self._stopping.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeSlot:
    """Notes what it is told; `tend` or `finish` may fail."""

    def __init__(self, gpu_id: str = "GPU-0", **failing: Exception) -> None:
        self.device = DeviceInfo(gpu_id, "NVIDIA T4", "Tesla T4", 24 * _GIB, 0)
        self.tended: list[DeviceReading | None] = []
        self.ended: list[str] = []
        self._failing = failing

    def tend(self, reading: DeviceReading | None) -> None:
        self.tended.append(reading)
        if "tend" in self._failing:
            raise self._failing["tend"]

    def stop(self) -> None:
        self.ended.append("stop")

    def finish(self, _grace_seconds: float) -> None:
        self.ended.append("finish")
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

    def loop(slots: list[FakeSlot], answers: list[DeviceReading | Exception]) -> None:
        stopping = threading.Event()
        settings = WorkerSettings(data_dir=tmp_path, poll_seconds=0.001, sample_seconds=1e-9)
        probe = FakeProbe(stopping, answers)
        supervisor = Supervisor(settings, scheduler, probe, slots, register)  # type: ignore[arg-type]  # as far as it goes
        supervisor.run(stopping)

    return loop


def test_a_reading_is_recorded_and_handed_to_the_slot(scheduler: Scheduler, run: Run) -> None:
    slot = FakeSlot()
    run([slot], [_READING])
    assert scheduler.fleet.gpu("GPU-0").sample == GpuSample(3 * _GIB, 21 * _GIB, 95.0, 70.0)
    assert slot.tended == [_READING]
    assert slot.ended == ["stop", "finish"]


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


def test_a_gpu_that_was_forgotten_is_registered_again(scheduler: Scheduler, run: Run) -> None:
    """The host was cut off from the store for longer than the fleet remembers a GPU."""
    slot = FakeSlot()
    with scheduler.database.write() as conn:
        conn.exec_driver_sql("DELETE FROM gpus")
    run([slot], [_READING, _READING])
    assert scheduler.fleet.gpu("GPU-0").sample.used_bytes == 3 * _GIB
    assert slot.tended == [_READING], "the round in which it was missed was lost"


def test_a_store_that_is_away_costs_a_round_and_no_worker(
    scheduler: Scheduler, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = StoreUnreachable("the database cannot be used: it restarts")
    failing, healthy = FakeSlot(tend=away), FakeSlot()
    run([failing, healthy], [_READING] * 4)
    assert (failing.tended, healthy.tended) == ([_READING] * 2, [_READING] * 2)


def test_every_worker_is_ended_although_the_store_is_away(run: Run) -> None:
    away = StoreUnreachable("the database cannot be used: it restarts")
    slots = [FakeSlot(finish=away), FakeSlot()]
    run(slots, [_READING, _READING])
    assert [slot.ended for slot in slots] == [["stop", "finish"]] * 2
