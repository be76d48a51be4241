"""A supervisor on a machine with a GPU, played by a fake NVML: what it records of the GPU's memory and its faults.

There is no CUDA behind it, so the worker process cannot start; the supervisor cannot know that beforehand.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from scheduler.processes import Child
from scheduler.records import Gpu
from scheduler.samples import Level
from scheduler.states import GpuState
from tests.support.fake_nvml import GIB, FakeGpu, build, configure, environment
from tests.support.service import wait_for
from tests.support.worker_host import WorkerHost

_GPU = FakeGpu(uuid="GPU-8a1c5b0e-0000-0000-0000-000000000001", total_bytes=24 * GIB, used_bytes=3 * GIB)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that says what NVML answers."""
    return tmp_path_factory.mktemp("control") / "nvml"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, control: Path) -> Iterator[WorkerHost]:
    configure(control, _GPU)
    nvml = environment(build(tmp_path_factory.mktemp("nvml")), control)
    host = WorkerHost(tmp_path_factory.mktemp("host"), models_dir, nvml, device="cuda")
    yield host
    host.close()


@pytest.fixture(scope="module")
def supervisor(host: WorkerHost) -> Child:
    supervisor = host.start()
    assert supervisor.ready.wait(30), host.log()
    return supervisor


def test_a_worker_without_cuda_says_so_in_one_line_and_is_tried_again(host: WorkerHost, supervisor: Child) -> None:
    said = "reelq-worker: device cuda: torch finds no usable NVIDIA GPU here\n"
    wait_for(lambda: said in host.log(), "the worker to give up", host.log)
    wait_for(lambda: host.log().count("worker started") == 2, "another start", host.log)
    assert "Traceback" not in host.log()
    assert '"said": "device cuda: torch finds no usable NVIDIA GPU here"' in host.log()
    assert supervisor.exit_code() is None
    assert host.gpu().state is GpuState.ACTIVE


def test_the_supervisor_records_what_nvml_says_and_never_a_number_it_did_not_say(
    host: WorkerHost, control: Path, supervisor: Child
) -> None:
    gpu = _when(host, lambda gpu: gpu.sample.used_bytes == 3 * GIB)
    assert (gpu.info.id, gpu.info.kind, gpu.info.plans[0]) == (_GPU.uuid, "NVIDIA H100 80GB HBM3", "fp16")
    assert (gpu.info.total_bytes, gpu.sample.free_bytes) == (24 * GIB, 21 * GIB)
    assert gpu.sample.power_watts == 70.0
    assert gpu.sample.foreign_bytes is not None
    assert 0 <= gpu.sample.foreign_bytes <= 3 * GIB, "it is less what a worker should hold that starts just then"

    # A call that fails may work later: the GPU stays, its memory is not known.
    configure(control, _GPU, errors={"nvmlDeviceGetMemoryInfo_v2": pynvml.NVML_ERROR_UNKNOWN})
    gpu = _when(host, lambda gpu: gpu.sample.problem is not None)
    assert "memory" in (gpu.sample.problem or "")
    assert (gpu.sample.used_bytes, gpu.sample.free_bytes) == (None, None)
    assert gpu.state is GpuState.ACTIVE
    configure(control, _GPU)
    assert _when(host, lambda gpu: gpu.sample.problem is None).sample.free_bytes == 21 * GIB

    # A GPU that fell off the bus does not come back by itself.
    configure(control, _GPU, errors={"nvmlDeviceGetHandleByUUID": pynvml.NVML_ERROR_GPU_IS_LOST})
    gpu = _when(host, lambda gpu: gpu.state is GpuState.FAULTED and gpu.sample.problem is not None)
    assert gpu.actor == "supervisor"
    assert "lost" in (gpu.reason or "").lower()
    assert (gpu.sample.used_bytes, gpu.sample.free_bytes) == (None, None)
    configure(control, _GPU)
    gpu = _when(host, lambda gpu: gpu.sample.problem is None)
    assert gpu.state is GpuState.FAULTED

    total = host.scheduler.samples.totals(gpu.seen_at - 3600, gpu.seen_at + 5)[_GPU.uuid]
    assert 0 < total.problems < total.samples
    assert total.seconds > 0
    assert total.used_bytes == Level(3 * GIB, 3 * GIB)
    assert total.power_watts == Level(70.0, 70.0)

    supervisor.terminate()
    assert supervisor.finish(20) == 0
    assert host.processes() == []


def _when(host: WorkerHost, condition: Callable[[Gpu], bool]) -> Gpu:
    def look() -> Gpu | None:
        gpu = host.gpu()
        return gpu if condition(gpu) else None

    return wait_for(look, "the supervisor to record it", host.log)
