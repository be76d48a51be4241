"""The card's own measure: how many FLOPs a second its matrix product reaches."""

import time
from statistics import median

import torch

from workers.pipelines import runtime


def rates(device: torch.device) -> dict[str, float]:
    """Return the FLOP per second of a large square matrix product on `device`, by dtype: medians of ten.

    Halves only on a GPU: a CPU computes them as floats.
    """
    names = ("float32",) if device.type == "cpu" else ("float16", "float32")
    return {name: _rate(device, getattr(torch, name)) for name in names}


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    side = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(13):
        runtime.synchronize(device)
        started = time.perf_counter()
        _ = left @ right
        runtime.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return float(2 * side**3 / median(seconds[3:]))
