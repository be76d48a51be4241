"""The machine's memory truth: which devices there are, and what they hold."""

import os
from collections.abc import Callable, Iterable
from typing import Literal

from workers.devices.cpu import CpuProbe
from workers.devices.nvml import NvmlProbe
from workers.devices.probe import (
    DeviceFault,
    DeviceInfo,
    DeviceLost,
    DeviceProbe,
    DeviceReading,
    ProbeAbsent,
    ProbeError,
    ProbeFailing,
    ProbeUnsupported,
)

__all__ = [
    "CpuProbe",
    "DeviceFault",
    "DeviceInfo",
    "DeviceLost",
    "DeviceProbe",
    "DeviceReading",
    "NvmlProbe",
    "ProbeAbsent",
    "ProbeError",
    "ProbeFailing",
    "ProbeUnsupported",
    "discover",
]


def _this_process() -> tuple[int, ...]:
    return (os.getpid(),)


def discover(
    device: Literal["auto", "cpu", "cuda"],
    *,
    cpu_budget_bytes: int,
    pids: Callable[[], Iterable[int]] = _this_process,
) -> DeviceProbe:
    """Return the probe for the devices to use; the caller closes it.

    "cuda" needs NVML and at least one GPU and raises ProbeAbsent otherwise. "auto" takes the GPUs if there
    are any, and the CPU if there is no driver or no GPU. In both, NVML that is there and does not work raises
    its ProbeError: a broken GPU machine must not turn into a slow CPU one unnoticed. `cpu_budget_bytes` and
    `pids` are CpuProbe's, and unused with GPUs.
    """
    if device == "cpu":
        return CpuProbe(cpu_budget_bytes, pids)
    probe = NvmlProbe()
    try:
        if probe.devices():
            return probe
        why = "NVML: the driver is loaded but sees no GPU"
    except ProbeAbsent as error:
        why = str(error)
    except ProbeError:
        probe.close()
        raise
    probe.close()
    if device == "cuda":
        raise ProbeAbsent(f"device cuda: {why}")
    return CpuProbe(cpu_budget_bytes, pids)
