"""What a device says about its memory: the records, the interface, and the ways it can fail to say.

    ProbeError              the memory of a device, or whether there is one, is not known
    ├── ProbeAbsent         no driver or no library: nothing to ask on this machine
    ├── ProbeFailing        a call failed; the same call may work later
    ├── ProbeUnsupported    this device can never answer this question
    └── DeviceLost          the device fell off the bus, needs a reset, or nothing here has that id

Unknown memory is an error and never a number; only telemetry that steers nothing may be None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class ProbeError(Exception):
    """The memory of a device, or whether there is one, is not known. The message is one line."""


class ProbeAbsent(ProbeError):
    """No driver or no library: there is nothing to ask on this machine."""


class ProbeFailing(ProbeError):
    """A call failed; the same call may work later."""


class ProbeUnsupported(ProbeError):
    """The device can never answer this question, for instance how much memory it has."""


class DeviceLost(ProbeError):
    """The device fell off the bus or needs a reset, or no device here has the given id."""


@dataclass(frozen=True)
class DeviceInfo:
    """One device, as long as it stays in the machine.

    `id` is NVML's UUID ("GPU-…", or "MIG-…" for a slice of a GPU) or "CPU-<hostname>". `kind` is the key for measured
    footprints: equal for equal hardware on every machine. `name` is what the device calls itself. `index` counts from
    0, in NVML's order, where each slice counts as its GPU would (it is not always CUDA's order: hand a process its
    device by `id`).
    """

    id: str
    kind: str
    name: str
    total_bytes: int
    index: int


@dataclass(frozen=True)
class DeviceReading:
    """A device at one moment.

    `used_bytes + free_bytes` is `total_bytes`, unless a CPU's processes outgrew its budget: then `free_bytes`
    is 0 and `used_bytes` says by how much. `processes` maps each process that holds the device's memory to
    its bytes, or None where the driver does not know them. Telemetry is None where the device has none:
    utilization in percent of the last sampling period, temperature in degrees Celsius, power in watts, energy in joules
    since the driver was loaded.

    A slice of a GPU has its GPU's temperature. It has neither power nor energy: both are measured for the whole board
    only, and any split among slices would charge one with what its neighbours do.
    """

    device_id: str
    total_bytes: int
    used_bytes: int
    free_bytes: int
    processes: Mapping[int, int | None]
    utilization_percent: float | None
    temperature_celsius: float | None
    power_watts: float | None
    energy_joules: float | None = None

    def foreign_bytes(self, ours: Mapping[int, int]) -> int:
        """How much is held by others than our processes, the driver itself included.

        `ours` maps the ids of our processes to what each should hold. That stands in for a process which the driver
        lists without its size or not at all, as in a container, where it knows processes by other ids.
        """
        held = sum(self.processes.get(pid) or expected_bytes for pid, expected_bytes in ours.items())
        return max(0, self.used_bytes - held)


@dataclass(frozen=True)
class DeviceFault:
    """The driver's word that a device cannot be relied on any more; `reason` is one line."""

    device_id: str
    reason: str


class DeviceProbe(Protocol):
    """Asks the devices of this machine. Safe to use from several threads."""

    def devices(self) -> tuple[DeviceInfo, ...]:
        """Every device that can be used now, in index order. Raises ProbeError when that is not known."""
        ...

    def read(self, device_id: str) -> DeviceReading:
        """The device's memory now. Raises ProbeError if it is not known, DeviceLost if the device is gone."""
        ...

    def faults(self) -> tuple[DeviceFault, ...]:
        """What broke since the last call; each fault is told once. Raises ProbeError when that cannot be known now."""
        ...

    def close(self) -> None:
        """Let go of the driver; may be called again. Reading afterwards raises ProbeError."""
        ...
