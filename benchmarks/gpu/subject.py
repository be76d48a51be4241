"""What is measured on: the device, the model made for it, and the rows in the size that the device can do."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import psutil
import pynvml
import torch

from benchmarks.gpu.rows import Row, small
from benchmarks.gpu.weights import make_full_size
from workers.devices import DeviceInfo, DeviceProbe, discover
from workers.meter import CpuMeter, CudaMeter
from workers.model_folder import inspect
from workers.models import ModelChoice, choose, tiny_folder
from workers.pipelines import runtime

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.footprint import DataSheet
    from workers.meter import Meter
    from workers.model_folder import ModelFolder

_FULL_SIZE_BYTES = 6 * 2**30  # free, for the folder with the weights


@dataclass(frozen=True)
class Subject:
    """`small` is where there is no GPU: the tiny model, and small rows."""

    probe: DeviceProbe
    info: DeviceInfo
    device: torch.device
    meter: Meter
    choice: ModelChoice
    folder: ModelFolder
    small: bool

    @classmethod
    def prepare(cls, scratch: Path) -> Subject:
        """Find the first GPU and make the full-size model for it below `scratch`; without a GPU, the tiny one.

        Raises OSError where there is no room, `ProbeError` for a GPU that cannot be asked.
        """
        probe = discover("auto", cpu_budget_bytes=psutil.virtual_memory().total // 2)
        info = probe.devices()[0]
        if info.kind == "cpu":
            device = runtime.pick_device("cpu")
            runtime.configure(device, cpu_threads=1)  # else its threads wait for each other, not for the machine
            choice = choose("tiny", kind=info.kind, models_dir=scratch)
            return cls(probe, info, device, CpuMeter(), choice, tiny_folder(scratch), small=True)
        if shutil.disk_usage(scratch).free < _FULL_SIZE_BYTES:
            raise OSError(f"{scratch} needs {_FULL_SIZE_BYTES >> 30} GiB free for the weights; TMPDIR chooses another")
        os.environ["CUDA_VISIBLE_DEVICES"] = info.id
        meter = CudaMeter(probe, info.id)
        device = runtime.pick_device("cuda")
        runtime.configure(device)
        path = scratch / "i2vgen-xl-random"
        make_full_size(path, device)
        runtime.empty_cache(device)
        return cls(
            probe,
            info,
            device,
            meter,
            choose(str(path), kind=info.kind, models_dir=scratch),
            inspect(path),
            small=False,
        )

    @property
    def sheet(self) -> DataSheet:
        """What is predicted without having measured."""
        return self.choice.architecture.data_sheet(self.info.kind, self.choice.served.weights_bytes)

    @property
    def fastest_plan(self) -> str:
        """What a worker here runs a job with where memory does not matter."""
        return "fp32" if self.small else "fp16"

    def sized(self, row: Row) -> Row:
        """Return `row` in the size that is measured here."""
        return small(row) if self.small else row

    def facts(self) -> dict[str, Any]:
        """What the figures depend on: they compare within one run only."""
        return {
            "device": self.info.name if self.info.kind != "cpu" else f"CPU, {os.cpu_count()} cores, no GPU",
            "memory GiB": round(self.info.total_bytes / 2**30, 1),
            "load average": round(os.getloadavg()[0], 1),
            "driver": None if self.small else _driver(),
            "CUDA": torch.version.cuda,
            "torch": version("torch"),
            "diffusers": version("diffusers"),
            "python": platform.python_version(),
            "model": "tiny, random weights" if self.small else "I2VGen-XL at its published size, random weights",
        }


def _driver() -> str:
    pynvml.nvmlInit()
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()
