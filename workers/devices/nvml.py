"""NVIDIA GPUs through NVML (nvidia-ml-py): the driver's own account of memory, never a guess."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import pynvml

from workers.devices import nvml_calls
from workers.devices.nvml_errors import translate
from workers.devices.nvml_events import FaultWatch, GpuFault
from workers.devices.probe import (
    DeviceFault,
    DeviceInfo,
    DeviceLost,
    DeviceReading,
    ProbeError,
    ProbeFailing,
    ProbeUnsupported,
)

T = TypeVar("T")


class NvmlProbe:
    """Asks NVML: opens it at the first call, and again after a failure, so a driver that comes back is seen.

    A device is looked up by its UUID at each reading, so a lost one is noticed. One lock serves all threads.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open = False
        self._closed = False
        self._watch: FaultWatch | None = None
        self._worn_out: set[str] = set()
        self._slices: dict[str, dict[str, int]] = {}  # by GPU: its slices and their GPU instances

    def devices(self) -> tuple[DeviceInfo, ...]:
        """All devices whose memory is known, in NVML's order: the GPUs, and the slices of those in MIG mode instead.

        One that is lost or cannot report its memory is left out with a warning, so that it does not take its
        neighbours with it; if none is left, its error is raised. Any other failure raises ProbeError.
        """
        found: list[DeviceInfo] = []
        unusable: list[ProbeError] = []
        with self._lock:
            count = self._call("count of GPUs", pynvml.nvmlDeviceGetCount)
            for gpu in range(count):
                try:
                    parts = self._parts(gpu)
                except (DeviceLost, ProbeUnsupported) as error:
                    unusable.append(error)
                    continue
                for part in parts:
                    try:
                        found.append(self._info(f"GPU {gpu}", part, len(found) + len(unusable)))
                    except (DeviceLost, ProbeUnsupported) as error:
                        unusable.append(error)
        if unusable and not found:
            raise unusable[0]
        for reason in unusable:
            logging.getLogger(__name__).warning("left out: %s", reason)
        return tuple(found)

    def read(self, device_id: str) -> DeviceReading:
        """The device's memory, processes and telemetry now; memory that the driver reserves is not free.

        Raises ProbeAbsent, ProbeFailing, ProbeUnsupported or DeviceLost; ProbeError after `close()`.
        """
        with self._lock:
            what = f"GPU {device_id}"
            handle = self._call(what, pynvml.nvmlDeviceGetHandleByUUID, device_id.encode(), lookup=True)
            total_bytes, free_bytes = self._memory(what, handle)
            whole = not self._call(what, nvml_calls.is_slice, handle)
            board = handle if whole else self._call(what, pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle)
            return DeviceReading(
                device_id=device_id,
                total_bytes=total_bytes,
                used_bytes=total_bytes - free_bytes,
                free_bytes=free_bytes,
                processes=self._processes(what, handle),
                utilization_percent=self._telemetry(what, nvml_calls.utilization, handle) if whole else None,
                temperature_celsius=self._telemetry(what, nvml_calls.temperature, board),
                power_watts=self._telemetry(what, nvml_calls.power, handle) if whole else None,
                energy_joules=self._telemetry(what, nvml_calls.energy, handle) if whole else None,
            )

    def faults(self) -> tuple[DeviceFault, ...]:
        """What the driver has called broken since the last call; the first call begins to listen.

        A fault of a GPU in MIG mode is one of each of its slices, unless the driver confines it to some. Drivers that
        have no events report nothing. Raises ProbeAbsent or ProbeFailing; ProbeError after `close()`.
        """
        with self._lock:
            try:
                if self._watch is None:
                    self._watch = self._call("events of GPUs", FaultWatch, self._worn_out)
                found = self._call("events of GPUs", self._watch.take)
            except ProbeUnsupported:
                return ()
            return tuple(device for fault in found for device in self._faulty(fault))

    def close(self) -> None:
        """Shut NVML down if this probe opened it; reading afterwards raises ProbeError."""
        with self._lock:
            self._closed = True
            self._shut_down()

    def _parts(self, gpu: int) -> list[Any]:
        """The handles of what there is to use of a GPU: its slices, or itself."""
        what = f"GPU {gpu}"
        handle = self._call(what, pynvml.nvmlDeviceGetHandleByIndex, gpu, lookup=True)
        if not self._call(what, nvml_calls.in_slices, handle):
            return [handle]
        slices = self._call(what, lambda: list(nvml_calls.slices(handle)))
        if not slices:
            raise ProbeUnsupported(f"{what}: it is in MIG mode and has no MIG device")
        instances = {
            self._uuid(what, each): self._call(what, pynvml.nvmlDeviceGetGpuInstanceId, each) for each in slices
        }
        self._slices[self._uuid(what, handle)] = instances
        return slices

    def _info(self, what: str, handle: Any, index: int) -> DeviceInfo:
        name = _text(self._call(f"{what} name", pynvml.nvmlDeviceGetName, handle))
        uuid = self._uuid(what, handle)
        total_bytes, _ = self._memory(f"GPU {uuid}", handle)
        return DeviceInfo(uuid, kind_of(name), name, total_bytes, index)

    def _uuid(self, what: str, handle: Any) -> str:
        return _text(self._call(f"{what} UUID", pynvml.nvmlDeviceGetUUID, handle))

    def _faulty(self, fault: GpuFault) -> Iterator[DeviceFault]:
        slices = self._slices.get(fault.gpu_uuid)
        if slices is None:
            yield DeviceFault(fault.gpu_uuid, fault.reason)
            return
        for device_id, instance in slices.items():
            if fault.instance in (None, instance):
                yield DeviceFault(device_id, fault.reason)

    def _memory(self, what: str, handle: Any) -> tuple[int, int]:
        """Total and free bytes; never a number that makes no sense."""
        memory = self._call(f"{what} memory", nvml_calls.memory, handle)
        total_bytes, free_bytes = int(memory.total), int(memory.free)
        if total_bytes == 0:
            raise ProbeUnsupported(f"{what} memory: NVML reports a total of 0 bytes")
        if free_bytes > total_bytes:
            raise ProbeFailing(f"{what} memory: NVML reports {free_bytes} bytes free of {total_bytes}")
        taken_bytes = int(memory.used) + int(getattr(memory, "reserved", 0))
        return total_bytes, max(0, min(free_bytes, total_bytes - taken_bytes))

    def _processes(self, what: str, handle: Any) -> dict[int, int | None]:
        """Compute processes, and graphics ones where the GPU has such; one in both lists counts once."""
        running = list(self._call(f"{what} compute processes", nvml_calls.compute_processes, handle))
        running += self._telemetry(f"{what} graphics processes", nvml_calls.graphics_processes, handle) or []
        return _merged((int(process.pid), process.usedGpuMemory) for process in running)

    def _telemetry(self, what: str, function: Callable[[Any], T], handle: Any) -> T | None:
        """The value, or None where the GPU does not have it."""
        try:
            return self._call(what, function, handle)
        except ProbeUnsupported:
            return None

    def _call(self, what: str, function: Callable[..., T], *arguments: Any, lookup: bool = False) -> T:
        """Call NVML, opening it first if need be, and turn its errors into ours."""
        if self._closed:
            raise ProbeError("NVML probe: closed")
        try:
            if not self._open:
                pynvml.nvmlInit()
                self._open = True
            return function(*arguments)
        except pynvml.NVMLError as nvml_error:
            error = translate(nvml_error, what if self._open else "NVML", lookup=lookup)
            if not isinstance(error, ProbeUnsupported):
                self._shut_down()  # the next call starts afresh
            raise error from nvml_error

    def _shut_down(self) -> None:
        if self._open:
            self._open = False
            watch, self._watch = self._watch, None
            for end in (*([watch.close] if watch else []), pynvml.nvmlShutdown):
                try:
                    end()
                except pynvml.NVMLError as error:
                    logging.getLogger(__name__).debug("NVML did not shut down: %s", error)


def kind_of(name: str) -> str:
    """The class of a GPU from its product name: one space between words, always with the maker's name first.

    Older drivers call the same board "A100-SXM4-40GB" that newer ones call "NVIDIA A100-SXM4-40GB".
    """
    words = name.split()
    return " ".join(words if words[:1] == ["NVIDIA"] else ["NVIDIA", *words])


def _text(value: str | bytes) -> str:
    # Releases of the bindings differ in which of the two they return.
    return value.decode() if isinstance(value, bytes) else value


def _merged(sizes: Iterable[tuple[int, int | None]]) -> dict[int, int | None]:
    processes: dict[int, int | None] = {}
    for pid, size in sizes:
        known = [each for each in (processes.get(pid), size) if each is not None]
        processes[pid] = max(known, default=None)
    return processes
