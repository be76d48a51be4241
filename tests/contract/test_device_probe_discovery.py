"""Which probe a process gets, in processes of their own so that the real loader finds (or misses) NVML."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pynvml
import pytest

from tests.support import fake_nvml
from tests.support.fake_nvml import GIB, FakeGpu

DISCOVER = """
import sys
from workers.devices import ProbeError, discover
try:
    probe = discover(sys.argv[1], cpu_budget_bytes=3 << 30)
    device = probe.devices()[0]
    print(type(probe).__name__, device.id, device.kind, probe.read(device.id).total_bytes)
    probe.close()
except ProbeError as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_nvml.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "control"


def discovered(device: str, environment: Mapping[str, str]) -> str:
    command = [sys.executable, "-c", DISCOVER, device]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_gpus_are_found_through_the_loader(library: Path, control: Path, device: str) -> None:
    fake_nvml.configure(control, FakeGpu(uuid="GPU-a", total_bytes=24 * GIB, name="NVIDIA L4"))
    found = discovered(device, fake_nvml.environment(library, control))
    assert found == f"NvmlProbe GPU-a NVIDIA L4 {24 * GIB}"


def test_cpu_asks_no_driver(library: Path, control: Path) -> None:
    fake_nvml.configure(control, FakeGpu(), errors={"nvmlInit": pynvml.NVML_ERROR_UNKNOWN})
    found = discovered("cpu", fake_nvml.environment(library, control))
    assert found.startswith("CpuProbe CPU-")
    assert found.endswith(f" cpu {3 * GIB}")


def test_without_the_library(tmp_path: Path, control: Path) -> None:
    environment = fake_nvml.environment(fake_nvml.build_broken(tmp_path / "broken"), control)
    assert discovered("auto", environment).startswith("CpuProbe CPU-")
    expected = "ProbeAbsent: device cuda: NVML: NVML Shared Library Not Found (NVML error 12)"
    assert discovered("cuda", environment) == expected


def test_without_a_driver(library: Path, control: Path) -> None:
    fake_nvml.configure(control, FakeGpu(), errors={"nvmlInit": pynvml.NVML_ERROR_DRIVER_NOT_LOADED})
    environment = fake_nvml.environment(library, control)
    assert discovered("auto", environment).startswith("CpuProbe CPU-")
    assert discovered("cuda", environment) == ("ProbeAbsent: device cuda: NVML: Driver Not Loaded (NVML error 9)")


def test_with_a_driver_and_no_gpu(library: Path, control: Path) -> None:
    fake_nvml.configure(control)
    environment = fake_nvml.environment(library, control)
    assert discovered("auto", environment).startswith("CpuProbe CPU-")
    assert discovered("cuda", environment) == ("ProbeAbsent: device cuda: NVML: the driver is loaded but sees no GPU")


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize(
    ("function", "code", "expected"),
    [
        ("nvmlInit", pynvml.NVML_ERROR_UNKNOWN, "ProbeFailing: NVML: Unknown Error (NVML error 999)"),
        (
            "nvmlDeviceGetCount",
            pynvml.NVML_ERROR_TIMEOUT,
            "ProbeFailing: count of GPUs: Timeout (NVML error 10)",
        ),
        (
            "nvmlDeviceGetHandleByIndex",
            pynvml.NVML_ERROR_GPU_IS_LOST,
            "DeviceLost: GPU 0: GPU is lost (NVML error 15)",
        ),
    ],
)
def test_a_driver_that_does_not_work_is_an_error_and_never_the_cpu(
    library: Path, control: Path, device: str, function: str, code: int, expected: str
) -> None:
    fake_nvml.configure(control, FakeGpu(), errors={function: code})
    assert discovered(device, fake_nvml.environment(library, control)) == expected
