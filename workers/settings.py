"""The settings of a host's supervisor and of its GPU workers."""

from pathlib import Path
from typing import ClassVar, Literal

import psutil
from pydantic import Field

from scheduler.policy import MIB
from scheduler.settings import StoreSettings


class WorkerSettings(StoreSettings):
    """What this host runs and on what; see `StoreSettings` for the rest."""

    section: ClassVar[str | None] = "worker"

    model: str = Field(
        "auto",
        description="tiny (random weights: noise), a folder in the published layout, or a hub id; "
        "auto: ali-vilab/i2vgen-xl on a GPU, tiny without one",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPUs if there are any, else the CPU")
    models_dir: Path | None = Field(None, description="Folder for downloaded and tiny models; default: in data_dir")
    cpu_memory_bytes: int = Field(
        default_factory=lambda: psutil.virtual_memory().total // 2,
        ge=512 * MIB,
        description="With the CPU as device: the memory its jobs may use; default: half of this machine's",
    )
    cpu_threads: int | None = Field(None, ge=1, description="With the CPU as device: torch's threads; default: its own")
    headroom_bytes: int = Field(256 * MIB, ge=0, description="Memory of each GPU that is never given to a job")
    crf: int = Field(18, ge=1, le=51, description="H.264 quality: lower is better and larger")
    poll_seconds: float = Field(0.5, gt=0, description="How often an idle worker looks, should a wake-up be lost")
    sample_seconds: float = Field(2.0, gt=0, description="How often each GPU is looked at")

    @property
    def resolved_models_dir(self) -> Path:
        """Where models are kept."""
        return (self.models_dir or self.data_dir / "models").expanduser().absolute()
