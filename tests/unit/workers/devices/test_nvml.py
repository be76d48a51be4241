"""The NVML probe against a fake driver: what it reads, and which state each NVML error becomes."""

import logging
from collections.abc import Callable

import pynvml
import pytest

from tests.support.fake_nvml import GIB, FakeGpu
from workers.devices import (
    DeviceLost,
    NvmlProbe,
    ProbeAbsent,
    ProbeError,
    ProbeFailing,
    ProbeUnsupported,
)
from workers.devices.nvml import kind_of

Configure = Callable[..., None]


def gpu(**fields: object) -> FakeGpu:
    return FakeGpu(uuid="GPU-a", **fields)  # type: ignore[arg-type]  # each test names its fields


def test_a_reading_carries_all_that_nvml_says(configure: Configure, probe: NvmlProbe) -> None:
    configure(
        gpu(
            used_bytes=10 * GIB,
            reserved_bytes=GIB,
            compute={7: 9 * GIB},
            utilization_percent=87,
            temperature_celsius=64,
            power_milliwatts=312_500,
            energy_millijoules=2_500_250,
        )
    )
    (device,) = probe.devices()
    assert (device.id, device.name, device.kind) == (
        "GPU-a",
        "NVIDIA H100 80GB HBM3",
        "NVIDIA H100 80GB HBM3",
    )
    reading = probe.read("GPU-a")
    assert (reading.total_bytes, reading.used_bytes, reading.free_bytes) == (80 * GIB, 11 * GIB, 69 * GIB)
    assert reading.processes == {7: 9 * GIB}
    assert (reading.utilization_percent, reading.temperature_celsius, reading.power_watts) == (87, 64, 312.5)
    assert reading.energy_joules == 2500.25


def test_reserved_memory_is_not_free_whichever_version_the_driver_has(configure: Configure, probe: NvmlProbe) -> None:
    configure(gpu(used_bytes=GIB, reserved_bytes=2 * GIB))
    newer = probe.read("GPU-a")
    missing = {"nvmlDeviceGetMemoryInfo_v2": pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}
    configure(gpu(used_bytes=GIB, reserved_bytes=2 * GIB), errors=missing)
    older = probe.read("GPU-a")
    assert newer == older
    assert newer.free_bytes == 77 * GIB


def test_free_that_counts_reserved_memory_is_corrected(configure: Configure, probe: NvmlProbe) -> None:
    configure(gpu(used_bytes=GIB, reserved_bytes=2 * GIB, free_bytes=79 * GIB))
    assert probe.read("GPU-a").free_bytes == 77 * GIB


def test_older_drivers_answer_by_older_calls(configure: Configure, probe: NvmlProbe) -> None:
    calls = (
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetTemperatureV",
    )
    configure(
        gpu(used_bytes=GIB, compute={7: GIB}, temperature_celsius=51),
        errors=dict.fromkeys(calls, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND),
    )
    reading = probe.read("GPU-a")
    assert (reading.used_bytes, reading.processes, reading.temperature_celsius) == (GIB, {7: GIB}, 51)


def test_processes_of_both_lists_count_once(configure: Configure, probe: NvmlProbe) -> None:
    configure(gpu(compute={1: 300, 2: None, 3: None}, graphics={1: 300, 3: 50, 4: None}))
    assert probe.read("GPU-a").processes == {1: 300, 2: None, 3: 50, 4: None}


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetUtilizationRates", "utilization_percent"),
        ("nvmlDeviceGetPowerUsage", "power_watts"),
        ("nvmlDeviceGetTotalEnergyConsumption", "energy_joules"),
    ],
)
def test_unsupported_telemetry_is_none_and_the_rest_stays(
    configure: Configure, probe: NvmlProbe, function: str, field: str
) -> None:
    configure(gpu(used_bytes=GIB, errors={function: pynvml.NVML_ERROR_NOT_SUPPORTED}))
    reading = probe.read("GPU-a")
    telemetry = ("utilization_percent", "temperature_celsius", "power_watts", "energy_joules")
    assert [name for name in telemetry if getattr(reading, name) is None] == [field]
    assert reading.used_bytes == GIB


def test_unsupported_temperature_and_graphics_list(configure: Configure, probe: NvmlProbe) -> None:
    functions = (
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
    )
    configure(gpu(compute={7: 5}, errors=dict.fromkeys(functions, pynvml.NVML_ERROR_NOT_SUPPORTED)))
    reading = probe.read("GPU-a")
    assert reading.temperature_celsius is None
    assert reading.processes == {7: 5}


NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
BOTH_MEMORY = ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo")
BOTH_COMPUTE = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")


@pytest.mark.parametrize(
    ("functions", "code", "expected", "message"),
    [
        (BOTH_MEMORY, NOT_SUPPORTED, ProbeUnsupported, "GPU GPU-a memory: Not Supported"),
        (BOTH_COMPUTE, NOT_SUPPORTED, ProbeUnsupported, "GPU-a compute processes: Not Supported"),
        (BOTH_MEMORY[:1], pynvml.NVML_ERROR_UNKNOWN, ProbeFailing, "memory: Unknown Error .NVML error 999"),
        (BOTH_MEMORY[:1], pynvml.NVML_ERROR_GPU_IS_LOST, DeviceLost, "GPU is lost"),
        (BOTH_MEMORY[:1], pynvml.NVML_ERROR_RESET_REQUIRED, DeviceLost, "NVML error 16"),
        (BOTH_MEMORY[:1], pynvml.NVML_ERROR_DRIVER_NOT_LOADED, ProbeAbsent, "Driver Not Loaded"),
        (("nvmlDeviceGetHandleByUUID",), pynvml.NVML_ERROR_GPU_IS_LOST, DeviceLost, "GPU is lost"),
        (("nvmlDeviceGetHandleByUUID",), pynvml.NVML_ERROR_NOT_FOUND, DeviceLost, "Not Found"),
        (("nvmlDeviceGetHandleByUUID",), pynvml.NVML_ERROR_NO_PERMISSION, ProbeUnsupported, "Permissions"),
        (("nvmlDeviceGetPowerUsage",), pynvml.NVML_ERROR_TIMEOUT, ProbeFailing, "Timeout"),
        (("nvmlDeviceGetUtilizationRates",), pynvml.NVML_ERROR_GPU_IS_LOST, DeviceLost, "GPU is lost"),
    ],
)
def test_each_error_is_its_state_and_the_probe_recovers(
    configure: Configure,
    probe: NvmlProbe,
    functions: tuple[str, ...],
    code: int,
    expected: type[ProbeError],
    message: str,
) -> None:
    configure(gpu())
    good = probe.read("GPU-a")
    configure(gpu(errors=dict.fromkeys(functions, code)))
    for _ in range(2):
        with pytest.raises(ProbeError, match=message) as caught:
            probe.read("GPU-a")
        assert type(caught.value) is expected
        assert "\n" not in str(caught.value)
    configure(gpu())
    assert probe.read("GPU-a") == good


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, ProbeAbsent),
        (pynvml.NVML_ERROR_UNKNOWN, ProbeFailing),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, ProbeFailing),
    ],
)
def test_a_failed_start_is_tried_again(
    configure: Configure, probe: NvmlProbe, code: int, expected: type[ProbeError]
) -> None:
    configure(gpu(), errors={"nvmlInit": code})
    with pytest.raises(ProbeError, match=f"^NVML: .*NVML error {code}") as caught:
        probe.devices()
    assert type(caught.value) is expected
    configure(gpu())
    assert [device.id for device in probe.devices()] == ["GPU-a"]


def test_a_driver_that_was_reloaded_is_opened_again(configure: Configure, probe: NvmlProbe) -> None:
    configure(gpu())
    good = probe.read("GPU-a")
    configure(gpu(), driver_start=1)
    with pytest.raises(ProbeFailing, match="GPU-a: Unknown Error"):
        probe.read("GPU-a")
    assert probe.read("GPU-a") == good


def test_a_gpu_that_left_the_machine_is_lost(configure: Configure, probe: NvmlProbe) -> None:
    configure(gpu(), FakeGpu(uuid="GPU-b"))
    assert probe.read("GPU-b").free_bytes == 80 * GIB
    configure(gpu())
    with pytest.raises(DeviceLost, match="GPU-b"):
        probe.read("GPU-b")
    assert probe.read("GPU-a").free_bytes == 80 * GIB


def test_closing_one_probe_leaves_another_open(configure: Configure, probe: NvmlProbe) -> None:
    configure(gpu())
    other = NvmlProbe()
    assert other.read("GPU-a") == probe.read("GPU-a")
    other.close()
    assert probe.read("GPU-a").free_bytes == 80 * GIB


def test_a_lost_gpu_does_not_hide_its_neighbours(
    configure: Configure, probe: NvmlProbe, caplog: pytest.LogCaptureFixture
) -> None:
    lost = gpu(errors={"nvmlDeviceGetHandleByIndex": pynvml.NVML_ERROR_GPU_IS_LOST})
    configure(lost, FakeGpu(uuid="GPU-b"))
    with caplog.at_level(logging.WARNING):
        (device,) = probe.devices()
    assert (device.id, device.index) == ("GPU-b", 1)
    assert "GPU 0: GPU is lost" in caplog.text
    configure(lost)
    with pytest.raises(DeviceLost, match="GPU 0"):
        probe.devices()


def test_numbers_that_make_no_sense_are_refused(configure: Configure, probe: NvmlProbe) -> None:
    configure(gpu(total_bytes=0))
    with pytest.raises(ProbeUnsupported, match="total of 0 bytes"):
        probe.read("GPU-a")
    configure(gpu(total_bytes=GIB, used_bytes=2 * GIB))  # free wraps round below zero
    with pytest.raises(ProbeFailing, match="free of 1073741824"):
        probe.read("GPU-a")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
        ("A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB"),
        (" Tesla  T4 ", "NVIDIA Tesla T4"),
    ],
)
def test_equal_boards_are_of_one_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind
