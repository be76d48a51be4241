"""Models, and what a job on them would need."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.schemas.jobs import Estimate
from scheduler.states import GpuState


class LimitRange(BaseModel):
    """An inclusive range; the value must be divisible by `multiple_of`."""

    minimum: int | float
    maximum: int | float
    multiple_of: int


class Preset(BaseModel):
    """A named approximation, or none."""

    name: str
    description: str


class Model(BaseModel):
    """A served model, in the shape OpenAI's clients read, with what it accepts."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix seconds; 0, for it is not recorded")
    owned_by: str
    architecture: str
    random_weights: bool = Field(description="The output is noise: the model is there to try the service out")
    limits: dict[str, LimitRange]
    defaults: dict[str, Any]
    presets: list[Preset]
    held: str | None = Field(description="Why its jobs wait until it is released; null while they do not")


class PlanEstimate(BaseModel):
    """What the job would need on one GPU under one plan, and whether it could ever run there so."""

    plan: str
    fits: bool
    reason: str | None = Field(description="Why it does not fit, with the sizes")
    capacity_bytes: int = Field(description="The largest working set the GPU can give beside the resident model")
    model_bytes: int
    working_bytes: int
    vram_bytes: int
    seconds: float
    weight: float
    basis: str = Field(description="Where the numbers come from")


class GpuEstimate(BaseModel):
    """What the job would need on one GPU, and whether it could ever run there."""

    gpu: str
    name: str
    state: GpuState
    online: bool
    fits: bool
    reason: str | None = Field(description="Why no plan fits, with the sizes")
    plan: str | None = Field(description="The fastest that fits; null where none does")
    plans: list[PlanEstimate] = Field(description="All that the job allows, the fastest first")


class JobEstimate(BaseModel):
    """What a job with these parameters would need."""

    object: Literal["estimate"] = "estimate"
    model: str
    params: dict[str, Any]
    priority: float
    fits: bool
    estimate: Estimate | None = Field(description="What the job would be submitted with; null where it fits nowhere")
    reason: str | None = Field(description="Why it fits nowhere, with the sizes")
    gpus: list[GpuEstimate]
