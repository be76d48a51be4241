"""The CPU as a device: its memory is a configured budget, and what is used is what our own processes hold."""

import platform
import socket
from collections.abc import Callable, Iterable

import psutil

from workers.devices.probe import DeviceFault, DeviceInfo, DeviceLost, DeviceReading, ProbeError, ProbeFailing
from workers.devices.resident import resident_bytes


class CpuProbe:
    """One device of `budget_bytes`, shared by the processes that `pids` names at each reading.

    Used is the sum of their resident sizes (shared pages count once per process, which errs on the safe
    side). Other programs do not count: the budget is what the operator gave us. There is no telemetry.
    """

    def __init__(self, budget_bytes: int, pids: Callable[[], Iterable[int]]) -> None:
        if budget_bytes <= 0:
            raise ValueError(f"budget_bytes: must be positive, not {budget_bytes}")
        self._pids = pids
        self._closed = False
        name = platform.processor() or platform.machine() or "cpu"
        self._info = DeviceInfo(f"CPU-{socket.gethostname()}", "cpu", name, budget_bytes, 0)

    def devices(self) -> tuple[DeviceInfo, ...]:
        """The one device. Raises ProbeError after `close()`."""
        self._check_open()
        return (self._info,)

    def read(self, device_id: str) -> DeviceReading:
        """The budget and what our processes hold of it now; a process that has ended holds nothing.

        Raises DeviceLost for another id, ProbeFailing when a process may not be looked at, ProbeError after
        `close()`.
        """
        self._check_open()
        if device_id != self._info.id:
            raise DeviceLost(f"device {device_id}: this machine has only {self._info.id}")
        processes = {pid: size for pid in self._pids() if (size := _held_bytes(pid))}
        used_bytes = sum(processes.values())
        return DeviceReading(
            device_id=device_id,
            total_bytes=self._info.total_bytes,
            used_bytes=used_bytes,
            free_bytes=max(0, self._info.total_bytes - used_bytes),
            processes=processes,
            utilization_percent=None,
            temperature_celsius=None,
            power_watts=None,
        )

    def faults(self) -> tuple[DeviceFault, ...]:
        """None: a CPU that breaks takes this process along. Raises ProbeError after `close()`."""
        self._check_open()
        return ()

    def close(self) -> None:
        """Nothing to let go of; reading afterwards raises ProbeError."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ProbeError("CPU probe: closed")


def _held_bytes(pid: int) -> int:
    try:
        return resident_bytes(pid)
    except psutil.NoSuchProcess:
        return 0
    except psutil.AccessDenied as error:
        raise ProbeFailing(f"process {pid}: its memory may not be read: {error}") from error
