"""Device, precision and memory helpers, as far as a machine without a GPU can show them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from workers.pipelines import runtime

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_auto_falls_back_to_the_cpu_and_cuda_says_why_not() -> None:
    assert runtime.pick_device("auto") == CPU
    with pytest.raises(runtime.DeviceUnavailable, match="no usable NVIDIA GPU"):
        runtime.pick_device("cuda")


def test_cuda_devices_are_numbered_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.pick_device("auto", 1) == runtime.pick_device("cuda", 1) == torch.device("cuda", 1)
    assert runtime.pick_device("cpu", 1) == CPU
    with pytest.raises(runtime.DeviceUnavailable, match=r"cuda:2: torch sees 2 GPU"):
        runtime.pick_device("cuda", 2)


def test_a_cpu_has_no_device_memory_to_report() -> None:
    runtime.reset_peak(CPU)
    runtime.empty_cache(CPU)
    runtime.synchronize(CPU)
    runtime.cap_memory(CPU, 1)
    assert runtime.device_memory(CPU) is None


def test_on_a_cpu_nothing_is_moved() -> None:
    tensor = torch.arange(3.0)
    assert runtime.pinned(tensor, CPU) is tensor
    assert runtime.upload(tensor, CPU) is tensor
    assert runtime.upload(tensor, CPU, torch.float16).dtype == torch.float16
    assert runtime.queue_download(tensor) is tensor
    assert runtime.download(tensor) is tensor


def test_memory_that_ran_out_is_recognised() -> None:
    assert runtime.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert runtime.is_out_of_memory(MemoryError())
    assert runtime.is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert not runtime.is_out_of_memory(RuntimeError("shape mismatch"))
    assert not runtime.is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert runtime.is_out_of_memory(caught.value)


def test_configure_makes_torch_deterministic_with_the_threads_asked_for() -> None:
    """In a process of its own, because the settings are the process's."""
    program = (
        "import torch; from workers.pipelines import runtime\n"
        "runtime.configure(torch.device('cpu'), cpu_threads=1)\n"
        "print(torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), "
        "torch.utils.deterministic.fill_uninitialized_memory)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True", "False"]
