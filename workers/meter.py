"""What this process holds of its device: resident between jobs, unused by its allocator, and the peak of a job."""

import ctypes
import ctypes.util
import os
from typing import TYPE_CHECKING, Protocol

from workers.devices import DeviceProbe, ProbeError, ProbeUnsupported
from workers.devices.resident import PeakResident, resident_bytes

if TYPE_CHECKING:
    from workers.pipelines.runtime import DeviceMemory


class Meter(Protocol):
    """Measures one process on one device, in bytes."""

    def resident_bytes(self) -> int:
        """What the process holds now."""
        ...

    def held_bytes(self) -> int:
        """What the process holds now, with what its allocator keeps but does not use."""
        ...

    def reset_peak(self) -> None:
        """Begin a new peak."""
        ...

    def peak_bytes(self) -> int | None:
        """The most the process held since `reset_peak`; None where that cannot be told."""
        ...

    def trim(self) -> None:
        """Give what is not used back to the device."""
        ...


class CpuMeter:
    """The process's resident size."""

    def __init__(self) -> None:
        self._peak = PeakResident()
        self._libc = ctypes.CDLL(ctypes.util.find_library("c"))

    def resident_bytes(self) -> int:
        """The resident size now."""
        return resident_bytes()

    def held_bytes(self) -> int:
        """The same: what malloc keeps is resident too."""
        return resident_bytes()

    def reset_peak(self) -> None:
        """Begin a new peak of the resident size."""
        self._peak.reset()

    def peak_bytes(self) -> int | None:
        """The largest resident size since `reset_peak`."""
        return self._peak.peak_bytes()

    def trim(self) -> None:
        """Have malloc return free pages (glibc; other C libraries return them by themselves)."""
        if hasattr(self._libc, "malloc_trim"):
            self._libc.malloc_trim(0)


class CudaMeter:
    """Torch's allocator, plus what the driver charges the process beyond it (context, libraries).

    Make it before torch touches the GPU: where the driver does not tell what a process holds (in a container, say),
    what the GPU gained since then stands in for it.
    """

    def __init__(self, probe: DeviceProbe, gpu_id: str) -> None:
        self._probe = probe
        self._gpu_id = gpu_id
        self._used_before_bytes = probe.read(gpu_id).used_bytes
        self._context_bytes: int | None = None

    def resident_bytes(self) -> int:
        """Allocated tensors and the context, without the allocator's cached blocks."""
        return self._beyond_allocator_bytes() + self._memory().allocated_bytes

    def held_bytes(self) -> int:
        """All that torch has reserved, and the context."""
        return self._beyond_allocator_bytes() + self._memory().reserved_bytes

    def reset_peak(self) -> None:
        """Begin a new peak of torch's reserved memory."""
        from workers.pipelines import runtime

        runtime.reset_peak(runtime.pick_device("cuda"))

    def peak_bytes(self) -> int | None:
        """The most that was reserved, plus the context; None while the driver does not answer."""
        try:
            return self._beyond_allocator_bytes() + self._memory().peak_reserved_bytes
        except ProbeError:  # a figure for the records: no reason to lose the video it belongs to
            return None

    def trim(self) -> None:
        """Return torch's unused blocks to the GPU."""
        from workers.pipelines import runtime

        runtime.empty_cache(runtime.pick_device("cuda"))

    def _beyond_allocator_bytes(self) -> int:
        reading = self._probe.read(self._gpu_id)
        held = reading.processes.get(os.getpid())
        if held is not None:
            return max(0, held - self._memory().reserved_bytes)
        if self._context_bytes is None:  # once, right after loading: later gains may be a stranger's
            gained = reading.used_bytes - self._used_before_bytes
            self._context_bytes = max(0, gained - self._memory().reserved_bytes)
        return self._context_bytes

    @staticmethod
    def _memory() -> "DeviceMemory":
        from workers.pipelines import runtime

        memory = runtime.device_memory(runtime.pick_device("cuda"))
        if memory is None:
            raise ProbeUnsupported("torch tells no memory for this device")
        return memory
