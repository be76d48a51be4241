"""What each NVML error means for us, as one of the probe's errors with one clear line."""

import pynvml

from workers.devices.probe import DeviceLost, ProbeAbsent, ProbeError, ProbeFailing, ProbeUnsupported

# The driver, or this GPU, does not have the call: an older version of it may still answer.
CANNOT_ANSWER = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)
_ABSENT = frozenset({pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED})
_LOST = frozenset(
    {
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_GPU_NOT_FOUND,
        pynvml.NVML_ERROR_RESET_REQUIRED,  # nothing runs there until an administrator has reset it
    }
)
# Said by a lookup only: the id or index names nothing here (any more).
_UNKNOWN_ID = frozenset({pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT})


def translate(error: pynvml.NVMLError, what: str, *, lookup: bool) -> ProbeError:
    """The probe's error for NVML's; `what` names the subject, `lookup` that a device was being looked up.

    Codes by nvmlReturn_t of the NVML reference. A GPU that this process may not use (a container sees such)
    counts as one that cannot answer. What is not known to be final is ProbeFailing.
    """
    line = f"{what}: {error} (NVML error {error.value})"
    if error.value in _ABSENT:
        return ProbeAbsent(line)
    if error.value in _LOST or (lookup and error.value in _UNKNOWN_ID):
        return DeviceLost(line)
    if error.value in CANNOT_ANSWER or error.value == pynvml.NVML_ERROR_NO_PERMISSION:
        return ProbeUnsupported(line)
    return ProbeFailing(line)
