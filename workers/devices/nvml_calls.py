"""Questions that NVML answers by other functions in other drivers, asked from the newest to the oldest.

Each takes NVML's device handle and raises pynvml.NVMLError.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pynvml

from workers.devices.nvml_errors import CANNOT_ANSWER

T = TypeVar("T")


def _first_known(handle: Any, *functions: Callable[[Any], T]) -> T:
    """The answer of the first function that the driver knows; they go from the newest to the oldest."""
    for function in functions[:-1]:
        try:
            return function(handle)
        except pynvml.NVMLError as error:
            if error.value not in CANNOT_ANSWER:
                raise
    return functions[-1](handle)


def memory(handle: Any) -> Any:
    """`total`, `free`, `used` in bytes; version 2 adds `reserved`, which version 1 counts as used."""
    return _first_known(
        handle,
        lambda h: pynvml.nvmlDeviceGetMemoryInfo(h, version=pynvml.nvmlMemory_v2),
        pynvml.nvmlDeviceGetMemoryInfo,
    )


def compute_processes(handle: Any) -> list[Any]:
    """Processes with a CUDA context here: `pid`, and `usedGpuMemory` in bytes or None."""
    return _first_known(
        handle,
        pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
        pynvml.nvmlDeviceGetComputeRunningProcesses_v2,
    )


def graphics_processes(handle: Any) -> list[Any]:
    """Processes that draw here: `pid`, and `usedGpuMemory` in bytes or None."""
    return _first_known(
        handle,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2,
    )


def utilization(handle: Any) -> float:
    """Percent of the last sampling period (1/6 s to 1 s) in which a kernel ran."""
    return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)


def temperature(handle: Any) -> float:
    """Temperature of the GPU die in degrees Celsius."""
    sensor = pynvml.NVML_TEMPERATURE_GPU
    celsius = _first_known(
        handle,
        lambda h: pynvml.nvmlDeviceGetTemperatureV(h, sensor),
        lambda h: pynvml.nvmlDeviceGetTemperature(h, sensor),
    )
    return float(celsius)


def power(handle: Any) -> float:
    """Watts that the whole board draws."""
    return float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1000


def energy(handle: Any) -> float:
    """Joules that the whole board has used since the driver was loaded."""
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000


def in_slices(handle: Any) -> bool:
    """Whether the GPU is in MIG mode: its slices can be used, and the GPU itself cannot."""
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError as error:
        if error.value not in CANNOT_ANSWER:
            raise
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def slices(handle: Any) -> Iterator[Any]:
    """The handles of the MIG devices that an administrator has made of a GPU."""
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_NOT_FOUND:  # a place with no slice
                raise


def is_slice(handle: Any) -> bool:
    """Whether the handle is a MIG device's."""
    try:
        return bool(pynvml.nvmlDeviceIsMigDeviceHandle(handle).value)
    except pynvml.NVMLError as error:
        if error.value not in CANNOT_ANSWER:
            raise
        return False


def row_remap_failed(handle: Any) -> bool:
    """Whether memory rows that went bad could not be replaced: the board's spare ones are used up."""
    try:
        _correctable, _uncorrectable, _pending, failed = pynvml.nvmlDeviceGetRemappedRows(handle)
    except pynvml.NVMLError as error:
        if error.value not in CANNOT_ANSWER:
            raise
        return False
    return bool(failed)
