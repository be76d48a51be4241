"""The CPU as a device: a budget, less what our own processes hold."""

import os
import subprocess
import sys

import psutil
import pytest

from workers.devices import CpuProbe, ProbeFailing
from workers.devices.resident import resident_bytes


def test_the_budget_is_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.devices.cpu.resident_bytes", {1: 300, 2: 500}.__getitem__)
    probe = CpuProbe(1000, lambda: (1, 2))
    (device,) = probe.devices()
    assert (device.kind, device.total_bytes, device.index) == ("cpu", 1000, 0)
    reading = probe.read(device.id)
    assert (reading.total_bytes, reading.used_bytes, reading.free_bytes) == (1000, 800, 200)
    assert reading.processes == {1: 300, 2: 500}
    assert (reading.utilization_percent, reading.temperature_celsius, reading.power_watts) == (None,) * 3


def test_processes_beyond_the_budget_leave_nothing_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.devices.cpu.resident_bytes", {1: 700, 2: 500}.__getitem__)
    probe = CpuProbe(1000, lambda: (1, 2))
    reading = probe.read(probe.devices()[0].id)
    assert (reading.used_bytes, reading.free_bytes) == (1200, 0)


def test_a_process_that_vanished_holds_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(timeout=30)
    probe = CpuProbe(1 << 40, lambda: (gone.pid, os.getpid()))
    reading = probe.read(probe.devices()[0].id)
    assert set(reading.processes) == {os.getpid()}
    assert reading.used_bytes == reading.processes[os.getpid()]


def test_a_process_that_ended_unreaped_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        probe = CpuProbe(1000, lambda: (ended.pid,))
        reading = probe.read(probe.devices()[0].id)
    assert (reading.used_bytes, reading.processes) == (0, {})


def test_a_process_that_hides_is_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(pid: int) -> int:
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr("workers.devices.cpu.resident_bytes", deny)
    probe = CpuProbe(1000, lambda: (41,))
    with pytest.raises(ProbeFailing, match="process 41"):
        probe.read(probe.devices()[0].id)


@pytest.mark.parametrize("budget_bytes", [0, -1])
def test_a_budget_is_positive(budget_bytes: int) -> None:
    with pytest.raises(ValueError, match="budget_bytes: must be positive"):
        CpuProbe(budget_bytes, tuple)


def test_pids_are_asked_at_each_reading() -> None:
    pids: list[int] = []
    probe = CpuProbe(1 << 40, lambda: pids)
    device = probe.devices()[0]
    assert probe.read(device.id).used_bytes == 0
    pids.append(os.getpid())
    used_bytes = probe.read(device.id).used_bytes
    assert used_bytes == pytest.approx(resident_bytes(), rel=0.1)
