"""What every device probe promises, asked of the CPU probe and of the NVML probe alike."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest

from tests.support import fake_nvml
from tests.support.fake_nvml import GIB, FakeGpu
from workers.devices import CpuProbe, DeviceLost, DeviceProbe, NvmlProbe, ProbeError

MIB = 1 << 20


class Machine(Protocol):
    """A machine whose first device our workers can fill."""

    probe: DeviceProbe

    def start_worker(self, size_bytes: int) -> int: ...

    def end_worker(self, pid: int) -> None: ...


class CpuMachine:
    HOLD = "import sys; held = b'x' * int(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"

    def __init__(self) -> None:
        self.workers: dict[int, subprocess.Popen[str]] = {}
        self.probe: DeviceProbe = CpuProbe(4 * GIB, lambda: list(self.workers))

    def start_worker(self, size_bytes: int) -> int:
        command = [sys.executable, "-c", self.HOLD, str(size_bytes)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.workers[worker.pid] = worker
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker.pid

    def end_worker(self, pid: int) -> None:
        self.workers[pid].communicate(timeout=30)


class NvmlMachine:
    def __init__(self, control: Path) -> None:
        self.control = control
        self.workers: dict[int, int | None] = {}
        self.probe: DeviceProbe = NvmlProbe()
        self._configure()

    def start_worker(self, size_bytes: int) -> int:
        pid = 4_000_000 + len(self.workers)
        self.workers[pid] = size_bytes
        self._configure()
        return pid

    def end_worker(self, pid: int) -> None:
        del self.workers[pid]
        self._configure()

    def _configure(self) -> None:
        used_bytes = sum(size or 0 for size in self.workers.values())
        first = FakeGpu(uuid="GPU-a", used_bytes=used_bytes, reserved_bytes=600 * MIB, compute=self.workers)
        fake_nvml.configure(self.control, first, FakeGpu(uuid="GPU-b", name="Tesla T4", total_bytes=15 * GIB))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_nvml.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(params=["cpu", "nvml"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    if request.param == "cpu":
        cpu = CpuMachine()
        yield cpu
        for worker in cpu.workers.values():
            if worker.returncode is None:
                worker.communicate(timeout=30)
        return
    folder, control = request.getfixturevalue("library"), tmp_path / "control"
    with fake_nvml.loaded(folder, control):
        nvml = NvmlMachine(control)
        yield nvml
        nvml.probe.close()


def test_devices_are_named_distinct_and_in_order(machine: Machine) -> None:
    devices = machine.probe.devices()
    assert devices
    assert [device.index for device in devices] == list(range(len(devices)))
    assert len({device.id for device in devices}) == len(devices)
    for device in devices:
        assert device.id.startswith(("GPU-", "CPU-"))
        assert device.kind == " ".join(device.kind.split()) != ""
        assert device.name
        assert device.total_bytes > 0
    assert machine.probe.devices() == devices


def test_every_device_accounts_for_all_of_its_memory(machine: Machine) -> None:
    for device in machine.probe.devices():
        reading = machine.probe.read(device.id)
        assert reading.device_id == device.id
        assert reading.total_bytes == device.total_bytes
        assert reading.used_bytes >= 0
        assert reading.free_bytes >= 0
        assert reading.used_bytes + reading.free_bytes == reading.total_bytes


def test_a_worker_takes_memory_and_gives_it_back(machine: Machine) -> None:
    device = machine.probe.devices()[0]
    before = machine.probe.read(device.id)
    pid = machine.start_worker(64 * MIB)
    during = machine.probe.read(device.id)
    held_bytes = during.processes[pid]
    assert held_bytes is not None
    assert held_bytes >= 64 * MIB
    assert during.used_bytes - before.used_bytes >= 64 * MIB
    assert before.free_bytes - during.free_bytes >= 64 * MIB
    machine.end_worker(pid)
    after = machine.probe.read(device.id)
    assert pid not in after.processes
    assert after.used_bytes == before.used_bytes


def test_two_workers_are_told_apart(machine: Machine) -> None:
    device = machine.probe.devices()[0]
    small, large = machine.start_worker(16 * MIB), machine.start_worker(96 * MIB)
    processes = machine.probe.read(device.id).processes
    assert set(processes) == {small, large}
    assert (processes[large] or 0) - (processes[small] or 0) >= 64 * MIB


@pytest.mark.parametrize("device_id", ["GPU-nowhere", "CPU-nowhere", "", "0"])
def test_an_unknown_device_is_lost_and_named_in_one_line(machine: Machine, device_id: str) -> None:
    with pytest.raises(DeviceLost) as caught:
        machine.probe.read(device_id)
    assert device_id in str(caught.value)
    assert "\n" not in str(caught.value)
    assert machine.probe.read(machine.probe.devices()[0].id).total_bytes > 0


def test_records_do_not_change(machine: Machine) -> None:
    device = machine.probe.devices()[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        device.total_bytes = 1  # type: ignore[misc]  # the point of the test
    with pytest.raises(dataclasses.FrozenInstanceError):
        machine.probe.read(device.id).free_bytes = 1  # type: ignore[misc]  # the point of the test


def test_threads_may_read_at_once(machine: Machine) -> None:
    device = machine.probe.devices()[0]
    machine.start_worker(16 * MIB)
    with ThreadPoolExecutor(8) as pool:
        readings = list(pool.map(machine.probe.read, [device.id] * 64))
    used_bytes = [reading.used_bytes for reading in readings]
    assert min(used_bytes) >= 16 * MIB
    assert max(used_bytes) - min(used_bytes) < 4 * MIB  # a real process moves a little


def test_a_closed_probe_says_so(machine: Machine) -> None:
    device = machine.probe.devices()[0]
    machine.probe.close()
    machine.probe.close()
    with pytest.raises(ProbeError, match="closed"):
        machine.probe.read(device.id)
    with pytest.raises(ProbeError, match="closed"):
        machine.probe.devices()
