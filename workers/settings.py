"""The settings of a host's supervisor and of its GPU workers."""

from importlib.machinery import PathFinder
from pathlib import Path
from typing import ClassVar, Literal

import psutil
from pydantic import Field, field_validator

from scheduler.plans import CPU_PLANS, GPU_PLANS, PLANS, Precision, usable
from scheduler.policy import MIB
from scheduler.settings import StoreSettings

_AUTO = "auto"


class WorkerSettings(StoreSettings):
    """What this host runs and on what; see `StoreSettings` for the rest."""

    section: ClassVar[str | None] = "worker"

    model: str = Field(
        "auto",
        description="tiny (random weights: noise), a folder in the published layout, or a hub id; "
        "auto: ali-vilab/i2vgen-xl on a GPU, tiny without one",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPUs if there are any, else the CPU")
    plans: str = Field(
        _AUTO,
        description="The plans its jobs may run with, separated by commas: "
        f"{', '.join(PLANS)}; auto: the fp32 ones on a CPU, the others on a GPU",
    )
    workers_per_gpu: int = Field(1, ge=1, le=16, description="Worker processes that share each GPU and its memory")
    models_dir: Path | None = Field(None, description="Folder for downloaded and tiny models; default: in data_dir")
    cpu_memory_bytes: int = Field(
        default_factory=lambda: psutil.virtual_memory().total // 2,
        ge=512 * MIB,
        description="With the CPU as device: the memory its jobs may use; default: half of this machine's",
    )
    cpu_threads: int | None = Field(None, ge=1, description="With the CPU as device: torch's threads; default: its own")
    headroom_bytes: int = Field(256 * MIB, ge=0, description="Memory of each GPU that is never given to a job")
    calibration: Path | None = Field(
        None, description="A file that `reelq-worker calibrate` wrote, here or on a machine with the same GPUs"
    )
    checkpoint_seconds: float = Field(
        10.0, gt=0, description="A running job is saved so often, or less often where saving takes more than 1 % of it"
    )
    batch_jobs: int = Field(
        4, ge=1, le=16, description="Jobs that may share a forward pass, where measured throughput gains by it"
    )
    lookahead_seconds: float = Field(
        1.0, ge=0, description="So long before its end, a job's successor is claimed and prepared"
    )
    idle_unload_seconds: float = Field(
        0.0, ge=0, description="Weights leave the GPU after so long without a job; 0: never"
    )
    leak_limit_bytes: int = Field(
        512 * MIB, ge=MIB, description="A worker that keeps so much more between jobs than at first is replaced"
    )
    compile: bool = Field(False, description="Compile the UNet (torch.compile): minutes once per shape, then faster")
    crf: int = Field(18, ge=1, le=51, description="H.264 quality: lower is better and larger")
    poll_seconds: float = Field(0.5, gt=0, description="How often an idle worker looks, should a wake-up be lost")
    sample_seconds: float = Field(2.0, gt=0, description="How often each GPU is looked at")
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port for this host's metrics, to whoever asks; 0 takes a free one; unset: none",
    )
    metrics_host: str = Field("127.0.0.1", description="Address that metrics_port is opened on")

    @field_validator("plans")
    @classmethod
    def _known(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",")]
        if names == [_AUTO]:
            return _AUTO
        for name in names:
            if name not in PLANS:
                raise ValueError(f"unknown plan {name!r}; there are {_AUTO} and {', '.join(PLANS)}")
            if not _can_run(name):
                raise ValueError(f"plan {name} needs the package torchao")
        return ",".join(names)

    def plans_for(self, kind: str) -> tuple[str, ...]:
        """Return the plans that workers run on devices of `kind`, from the fastest to the leanest."""
        if self.plans == _AUTO:
            return tuple(name for name in (CPU_PLANS if kind == "cpu" else GPU_PLANS) if _can_run(name))
        return usable(self.plans.split(","), allow_int8=True)

    @property
    def resolved_models_dir(self) -> Path:
        """Where models are kept."""
        return (self.models_dir or self.data_dir / "models").expanduser().absolute()


def _can_run(plan: str) -> bool:
    """Whether what the plan needs beside torch is installed; it is not imported for the answer."""
    # Not by `find_spec`: to whom has imported `workers.pipelines`, torchao is not there.
    return PLANS[plan].precision is not Precision.INT8 or PathFinder.find_spec("torchao") is not None
