"""MIG: the slices of a GPU are the devices, and each is charged with what is its own."""

import logging
from collections.abc import Callable

import pynvml
import pytest

from tests.support.fake_nvml import GIB, FakeGpu, FakeSlice, Xid
from workers.devices import DeviceFault, DeviceLost, NvmlProbe, ProbeUnsupported

Configure = Callable[..., None]

_LARGE = FakeSlice("MIG-a", instance=1, used_bytes=9 * GIB, compute={7: 9 * GIB})
_SMALL = FakeSlice("MIG-b", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", instance=7, total_bytes=10 * GIB)
_SLICED = FakeGpu(
    uuid="GPU-a", temperature_celsius=64, energy_millijoules=5_000, compute={7: 9 * GIB}, slices=[_LARGE, None, _SMALL]
)


def test_the_slices_are_the_devices_and_their_gpu_is_none(configure: Configure, probe: NvmlProbe) -> None:
    configure(_SLICED, FakeGpu(uuid="GPU-b"))
    found = [(device.id, device.kind, device.total_bytes, device.index) for device in probe.devices()]
    assert found == [
        ("MIG-a", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", 40 * GIB, 0),
        ("MIG-b", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", 10 * GIB, 1),
        ("GPU-b", "NVIDIA H100 80GB HBM3", 80 * GIB, 2),
    ]


def test_a_slice_has_its_own_memory_and_processes_and_not_the_boards_power(
    configure: Configure, probe: NvmlProbe
) -> None:
    configure(_SLICED)
    large, small = probe.read("MIG-a"), probe.read("MIG-b")
    assert (large.total_bytes, large.free_bytes, large.processes) == (40 * GIB, 31 * GIB, {7: 9 * GIB})
    assert (small.total_bytes, small.free_bytes, small.processes) == (10 * GIB, 10 * GIB, {})
    assert large.temperature_celsius == 64
    assert (large.utilization_percent, large.power_watts, large.energy_joules) == (None, None, None)
    assert probe.read("GPU-a").energy_joules == 5.0


def test_a_gpu_in_mig_mode_without_slices_is_left_out(
    configure: Configure, probe: NvmlProbe, caplog: pytest.LogCaptureFixture
) -> None:
    empty = FakeGpu(uuid="GPU-a", slices=[])
    configure(empty, FakeGpu(uuid="GPU-b"))
    with caplog.at_level(logging.WARNING):
        assert [device.id for device in probe.devices()] == ["GPU-b"]
    assert "GPU 0: it is in MIG mode and has no MIG device" in caplog.text
    configure(empty)
    with pytest.raises(ProbeUnsupported, match="no MIG device"):
        probe.devices()


def test_a_slice_that_cannot_tell_its_memory_does_not_take_its_neighbours_along(
    configure: Configure, probe: NvmlProbe
) -> None:
    silent = dict.fromkeys(("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo"), pynvml.NVML_ERROR_NOT_SUPPORTED)
    configure(FakeGpu(slices=[FakeSlice("MIG-a", errors=silent), _SMALL]))
    assert [device.id for device in probe.devices()] == ["MIG-b"]


def test_a_slice_that_was_destroyed_is_lost(configure: Configure, probe: NvmlProbe) -> None:
    configure(_SLICED)
    assert probe.read("MIG-b").free_bytes == 10 * GIB
    configure(FakeGpu(uuid="GPU-a", slices=[_LARGE]))
    with pytest.raises(DeviceLost, match="MIG-b"):
        probe.read("MIG-b")


def test_a_fault_is_that_of_the_slices_it_is_confined_to(configure: Configure, probe: NvmlProbe) -> None:
    configure(_SLICED)
    probe.devices()
    assert probe.faults() == ()
    confined, whole = Xid(48, instance=7), Xid(79)
    configure(_SLICED, xids=[confined])
    assert probe.faults() == (DeviceFault("MIG-b", "Xid 48: double-bit ECC error"),)
    configure(_SLICED, xids=[confined, whole])
    assert [fault.device_id for fault in probe.faults()] == ["MIG-a", "MIG-b"]


def test_a_driver_that_knows_no_slices_has_whole_gpus(configure: Configure, probe: NvmlProbe) -> None:
    functions = ("nvmlDeviceGetMigMode", "nvmlDeviceIsMigDeviceHandle")
    configure(FakeGpu(uuid="GPU-a"), errors=dict.fromkeys(functions, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND))
    assert [device.id for device in probe.devices()] == ["GPU-a"]
    assert probe.read("GPU-a").power_watts == 70
