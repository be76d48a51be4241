"""What a process holds of its device: the CPU's meter, and the GPU's when the driver does not answer."""

import mmap

import pytest

from workers.devices import DeviceReading, ProbeFailing
from workers.meter import CpuMeter, CudaMeter

_MIB = 2**20


class FailingProbe:
    """A probe that answered once."""

    def __init__(self) -> None:
        self.answers = [DeviceReading("GPU-0", 24 * 2**30, 0, 24 * 2**30, {}, None, None, None)]

    def read(self, _device_id: str) -> DeviceReading:
        if not self.answers:
            raise ProbeFailing("GPU GPU-0 memory: Unknown Error (NVML error 999)")
        return self.answers.pop()


def test_a_peak_that_the_driver_cannot_tell_is_none_and_no_error() -> None:
    meter = CudaMeter(FailingProbe(), "GPU-0")  # type: ignore[arg-type]  # it is only read
    assert meter.peak_bytes() is None


def test_resident_bytes_that_the_driver_cannot_tell_are_an_error() -> None:
    meter = CudaMeter(FailingProbe(), "GPU-0")  # type: ignore[arg-type]  # it is only read
    with pytest.raises(ProbeFailing):
        meter.resident_bytes()


def test_on_the_cpu_a_jobs_peak_outlasts_its_memory_and_ends_with_the_next_reset() -> None:
    meter = CpuMeter()
    meter.trim()
    meter.reset_peak()
    before = meter.resident_bytes()
    with mmap.mmap(-1, 64 * _MIB) as memory:
        memory.write(b"x" * len(memory))
        assert meter.resident_bytes() > before + 60 * _MIB
    peak = meter.peak_bytes()
    assert peak is not None
    assert peak > before + 60 * _MIB
    meter.trim()
    meter.reset_peak()
    assert (meter.peak_bytes() or 0) < peak - 30 * _MIB
    assert abs(meter.held_bytes() - meter.resident_bytes()) < 30 * _MIB
