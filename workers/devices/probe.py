"""What a device says about its memory: the records, the interface, and the ways it can fail to say.

    ProbeError              the memory of a device, or whether there is one, is not known
    ├── ProbeAbsent         no driver or no library: nothing to ask on this machine
    ├── ProbeFailing        a call failed; the same call may work later
    ├── ProbeUnsupported    this device can never answer this question
    └── DeviceLost          the device fell off the bus, or nothing here has that id

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
    """The device fell off the bus, or no device here has the given id."""


@dataclass(frozen=True)
class DeviceInfo:
    """One device, as long as it stays in the machine.

    `id` is NVML's UUID ("GPU-…") or "CPU-<hostname>". `kind` is the key for measured footprints: equal for
    equal hardware on every machine. `name` is what the device calls itself. `index` counts from 0, in NVML's
    order (which is not always CUDA's: hand a process its GPU by `id`).
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
    utilization in percent of the last sampling period, temperature in degrees Celsius, power in watts.
    """

    device_id: str
    total_bytes: int
    used_bytes: int
    free_bytes: int
    processes: Mapping[int, int | None]
    utilization_percent: float | None
    temperature_celsius: float | None
    power_watts: float | None


class DeviceProbe(Protocol):
    """Asks the devices of this machine. Safe to use from several threads."""

    def devices(self) -> tuple[DeviceInfo, ...]:
        """Every device that can be used now, in index order. Raises ProbeError when that is not known."""
        ...

    def read(self, device_id: str) -> DeviceReading:
        """The device's memory now. Raises ProbeError if it is not known, DeviceLost if the device is gone."""
        ...

    def close(self) -> None:
        """Let go of the driver; may be called again. Reading afterwards raises ProbeError."""
        ...
