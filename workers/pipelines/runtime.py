"""The device a worker runs on: which one, in which precision, how reproducibly, with how much memory."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Literal

import torch

DeviceKind = Literal["auto", "cpu", "cuda"]


class DeviceUnavailable(RuntimeError):
    """The device that was asked for is not on this machine, or torch cannot use it."""


@dataclass(frozen=True)
class DeviceMemory:
    """What torch's allocator holds on one GPU, in bytes. Peaks count from the last `reset_peak`."""

    allocated_bytes: int
    reserved_bytes: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int


def pick_device(kind: DeviceKind, cuda_index: int = 0) -> torch.device:
    """The device for `kind`; `auto` is GPU `cuda_index` where torch sees one, else the CPU.

    Raises DeviceUnavailable.
    """
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceUnavailable("device cuda: torch finds no usable NVIDIA GPU here")
    count = torch.cuda.device_count()
    if not 0 <= cuda_index < count:
        raise DeviceUnavailable(f"device cuda:{cuda_index}: torch sees {count} GPU(s), numbered from 0")
    return torch.device("cuda", cuda_index)


def configure(device: torch.device, *, cpu_threads: int | None = None) -> None:
    """Set this process up for `device`: same input, same bytes; `cpu_threads` threads where given.

    Call it before anything runs on the GPU: cuBLAS reads its workspace setting once.
    """
    if cpu_threads is not None:
        torch.set_num_threads(cpu_threads)
    # https://docs.nvidia.com/cuda/cublas/#results-reproducibility
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # A kernel that has no deterministic form is worth a warning, not a failed job.
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory guards against reading it before writing it. It costs a pass over every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False
    if device.type == "cuda":
        torch.cuda.set_device(device)


def device_memory(device: torch.device) -> DeviceMemory | None:
    """What the allocator holds on `device`; None on a CPU, where torch does not count."""
    if device.type != "cuda":
        return None
    return DeviceMemory(
        allocated_bytes=torch.cuda.memory_allocated(device),
        reserved_bytes=torch.cuda.memory_reserved(device),
        peak_allocated_bytes=torch.cuda.max_memory_allocated(device),
        peak_reserved_bytes=torch.cuda.max_memory_reserved(device),
    )


def reset_peak(device: torch.device) -> None:
    """Start counting peaks anew. Does nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def empty_cache(device: torch.device) -> None:
    """Give what the allocator keeps but does not use back to the GPU. Does nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given, so that a clock read next is right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def cap_memory(device: torch.device, limit_bytes: int) -> None:
    """Let torch's allocator take no more than `limit_bytes` of `device`: more is an out-of-memory error.

    Does nothing on a CPU. The CUDA context and what libraries allocate themselves are beside it.
    """
    if device.type == "cuda":
        total_bytes = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total_bytes), device)


def pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor`, from which `upload` to a GPU does not wait for the GPU."""
    if device.type != "cuda":
        return tensor
    with torch.cuda.device(device):  # a thread's own device is the first, and pinning would make a context there
        return tensor.pin_memory()


def upload(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`tensor` on `device`, there cast to `dtype` if given. Waits for nothing if it is pinned."""
    moved = tensor.to(device, non_blocking=True)
    return moved if dtype is None else moved.to(dtype)


def queue_download(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the CPU into which `tensor` is copied once the GPU's current stream gets there.

    Until then only that stream may use it. On a CPU this is `tensor` itself.
    """
    if tensor.device.type != "cuda":
        return tensor
    with torch.cuda.device(tensor.device):
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def download(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, which must be done, on the CPU; waits for that copy alone, not for work that was given later."""
    if tensor.device.type != "cuda":
        return tensor
    stream = _copy_stream(tensor.device)
    with torch.cuda.stream(stream):
        copy = queue_download(tensor)
    stream.synchronize()
    return copy


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on a GPU or on the host.

    torch has a type for its own allocator's failures only; cuBLAS, cuDNN and the CPU allocator raise
    RuntimeError.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    phrases = (
        "out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED",
        "can't allocate memory",
    )
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in phrases)
