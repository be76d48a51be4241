"""What NVML's events say of a GPU's health: the Xid errors after which the GPU cannot be relied on."""

import logging
from dataclasses import dataclass
from typing import Any

import pynvml

from workers.devices import nvml_calls

# By NVIDIA's public Xid catalog: those that call for a reset, a restart or a repair. The others end at most the process
# that met them (13, 31, 43, 45, 94, …): its supervisor starts another one, and a GPU that kills all is a crash loop.
FATAL_XIDS = {
    46: "the GPU stopped processing",
    48: "double-bit ECC error",
    54: "auxiliary power is not connected to the board",
    62: "the internal micro-controller halted",
    64: "a bad memory page or row could not be recorded for replacement",
    79: "GPU has fallen off the bus",
    95: "uncontained memory error",
    119: "the GPU system processor does not answer",
    120: "the GPU system processor failed",
    140: "unrecovered ECC error",
    143: "the GPU could not be initialized",
}
_WHOLE_GPU = 0xFFFFFFFF  # the GPU instance of an event that belongs to none
_MOST = 100  # events at one look, so that a storm of them ends a look too


@dataclass(frozen=True)
class GpuFault:
    """What broke: `gpu_uuid` is the board's, `instance` the MIG GPU instance that it is confined to, if it is."""

    gpu_uuid: str
    instance: int | None
    reason: str


class FaultWatch:
    """Listens to every GPU that can raise events, while NVML stays open: once it is opened again, make another one.

    `worn_out` holds the UUIDs of GPUs whose lack of spare memory rows was told before; it is added to. All methods
    raise pynvml.NVMLError.
    """

    def __init__(self, worn_out: set[str]) -> None:
        self._worn_out = worn_out
        self._events = pynvml.nvmlEventSetCreate()
        self._found: list[GpuFault] = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                self._register(pynvml.nvmlDeviceGetHandleByIndex(index))
            except pynvml.NVMLError as error:  # it cannot tell, or is lost, which a reading finds out as well
                logging.getLogger(__name__).info("GPU %d raises no events: %s", index, error)

    def take(self) -> list[GpuFault]:
        """The faults since the last call, those found at the start among them."""
        for _ in range(_MOST):
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError as error:
                # One lost GPU may fail the wait for all; which one it is, the readings tell.
                if error.value not in (pynvml.NVML_ERROR_TIMEOUT, pynvml.NVML_ERROR_GPU_IS_LOST):
                    raise
                break
            self._note(_uuid(event.device), int(event.eventData), int(event.gpuInstanceId))
        found, self._found = self._found, []
        return found

    def close(self) -> None:
        """Give the driver its event set back; NVML must still be open."""
        pynvml.nvmlEventSetFree(self._events)

    def _register(self, handle: Any) -> None:
        pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, self._events)
        uuid = _uuid(handle)
        if uuid not in self._worn_out and nvml_calls.row_remap_failed(handle):
            self._worn_out.add(uuid)
            self._found.append(GpuFault(uuid, None, "memory rows that went bad could not be replaced"))

    def _note(self, uuid: str, xid: int, instance: int) -> None:
        meaning = FATAL_XIDS.get(xid)
        logging.getLogger(__name__).warning(
            "GPU %s: Xid %d: %s", uuid, xid, meaning or "not taken for a fault of the GPU"
        )
        if meaning is not None:
            confined_to = None if instance == _WHOLE_GPU else instance
            self._found.append(GpuFault(uuid, confined_to, f"Xid {xid}: {meaning}"))


def _uuid(handle: Any) -> str:
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    return uuid.decode() if isinstance(uuid, bytes) else str(uuid)
