"""What NVML calls a fault of a GPU: Xid errors as they happen, and memory that cannot be mended."""

import logging
from collections.abc import Callable

import pynvml
import pytest

from tests.support.fake_nvml import FakeGpu, Xid
from workers.devices import CpuProbe, DeviceFault, NvmlProbe, ProbeAbsent, ProbeError, ProbeFailing
from workers.devices.nvml_events import FATAL_XIDS

Configure = Callable[..., None]

_A, _B = FakeGpu(uuid="GPU-a"), FakeGpu(uuid="GPU-b")


def test_an_xid_is_told_once_with_its_gpu_and_its_meaning(configure: Configure, probe: NvmlProbe) -> None:
    configure(_A, _B)
    assert probe.faults() == ()
    configure(_A, _B, xids=[Xid(79, gpu=1)])
    assert probe.faults() == (DeviceFault("GPU-b", "Xid 79: GPU has fallen off the bus"),)
    assert probe.faults() == ()
    configure(_A, _B, xids=[Xid(79, gpu=1), Xid(95), Xid(119, gpu=1)])
    assert [(fault.device_id, fault.reason[:8]) for fault in probe.faults()] == [
        ("GPU-a", "Xid 95: "),
        ("GPU-b", "Xid 119:"),
    ]


def test_what_was_before_the_first_look_is_not_told(configure: Configure, probe: NvmlProbe) -> None:
    configure(_A, xids=[Xid(79)])
    assert probe.faults() == ()


@pytest.mark.parametrize("number", [13, 31, 43, 45, 63, 94, 4711])
def test_an_error_of_a_program_is_no_fault_of_the_gpu(
    configure: Configure, probe: NvmlProbe, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert number not in FATAL_XIDS
    configure(_A)
    probe.faults()
    configure(_A, xids=[Xid(number)])
    with caplog.at_level(logging.WARNING):
        assert probe.faults() == ()
    assert f"GPU GPU-a: Xid {number}: not taken for a fault of the GPU" in caplog.text


def test_readings_go_on_beside(configure: Configure, probe: NvmlProbe) -> None:
    configure(_A)
    probe.faults()
    before = probe.read("GPU-a")
    configure(_A, xids=[Xid(79)])
    assert probe.read("GPU-a") == before
    assert len(probe.faults()) == 1


def test_after_nvml_was_opened_again_it_listens_again(configure: Configure, probe: NvmlProbe) -> None:
    configure(_A)
    probe.faults()
    configure(_A, driver_start=1)
    with pytest.raises(ProbeFailing, match="events of GPUs: Unknown Error"):
        probe.faults()
    assert probe.faults() == ()
    configure(_A, driver_start=1, xids=[Xid(48)])
    assert [fault.reason for fault in probe.faults()] == ["Xid 48: double-bit ECC error"]


@pytest.mark.parametrize("function", ["nvmlEventSetCreate", "nvmlDeviceRegisterEvents"])
def test_a_driver_without_events_tells_none(configure: Configure, probe: NvmlProbe, function: str) -> None:
    configure(_A, errors={function: pynvml.NVML_ERROR_NOT_SUPPORTED})
    assert probe.faults() == ()
    configure(_A, errors={function: pynvml.NVML_ERROR_NOT_SUPPORTED}, xids=[Xid(79)])
    assert probe.faults() == ()
    assert probe.read("GPU-a").used_bytes == 0


def test_a_gpu_that_raises_no_events_does_not_silence_the_others(configure: Configure, probe: NvmlProbe) -> None:
    lost = FakeGpu(uuid="GPU-a", errors={"nvmlDeviceGetHandleByIndex": pynvml.NVML_ERROR_GPU_IS_LOST})
    configure(lost, _B)
    assert probe.faults() == ()
    configure(lost, _B, xids=[Xid(79, gpu=1)])
    assert [fault.device_id for fault in probe.faults()] == ["GPU-b"]


def test_a_wait_that_a_lost_gpu_fails_leaves_the_finding_to_the_readings(
    configure: Configure, probe: NvmlProbe
) -> None:
    configure(_A)
    probe.faults()
    configure(_A, errors={"nvmlEventSetWait": pynvml.NVML_ERROR_GPU_IS_LOST})
    assert probe.faults() == ()
    configure(_A, xids=[Xid(79)])
    assert len(probe.faults()) == 1, "it still listens"


def test_without_a_driver_nothing_can_be_known(configure: Configure, probe: NvmlProbe) -> None:
    configure(_A, errors={"nvmlInit": pynvml.NVML_ERROR_DRIVER_NOT_LOADED})
    with pytest.raises(ProbeAbsent):
        probe.faults()


def test_a_gpu_without_spare_memory_rows_is_told_once(configure: Configure, probe: NvmlProbe) -> None:
    worn = FakeGpu(uuid="GPU-b", remap_failed=True)
    configure(_A, worn)
    assert probe.faults() == (DeviceFault("GPU-b", "memory rows that went bad could not be replaced"),)
    configure(_A, worn, driver_start=1)
    with pytest.raises(ProbeFailing):
        probe.faults()
    assert probe.faults() == (), "who resumes it knows"


def test_a_closed_probe_says_so(configure: Configure, probe: NvmlProbe) -> None:
    configure(_A)
    probe.faults()
    probe.close()
    with pytest.raises(ProbeError, match="closed"):
        probe.faults()


def test_a_cpu_has_none() -> None:
    probe = CpuProbe(2**30, list)
    assert probe.faults() == ()
    probe.close()
    with pytest.raises(ProbeError, match="closed"):
        probe.faults()
