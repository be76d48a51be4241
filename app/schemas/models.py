"""Models, and what a job on them would need."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.schemas.jobs import Estimate, Expected, Wait
from scheduler.states import GpuState


class LimitRange(BaseModel):
    """An inclusive range; a value must be divisible by `multiple_of`, and need be no integer where that is null."""

    minimum: int | float
    maximum: int | float
    multiple_of: int | None


class ImageLimits(BaseModel):
    """What is taken as an image; a side is width or height, in pixels."""

    formats: list[str]
    max_bytes: int
    max_pixels: int = Field(description="Width times height")
    min_side: int
    max_side: int


class PresetEstimate(BaseModel):
    """What a job with the model's defaults should take on the GPU that would be chosen for it."""

    gpu_kind: str
    plan: str
    seconds: float
    vram_bytes: int
    cost: float | None = Field(description="What the seconds cost; null where the service was not told a price")


class PresetMeasure(BaseModel):
    """What the last such jobs took on this installation, on that kind of GPU and under that plan, each alone."""

    jobs: int
    shape: str = Field(description="Width, height and frames, and what else memory depends on")
    steps: int
    seconds_p50: float = Field(description="The median")
    vram_peak_bytes: int | None = Field(description="The largest, of the whole process; null where it is not known")


class Preset(BaseModel):
    """A named choice between speed and quality."""

    name: str
    description: str
    defaults: dict[str, Any] = Field(description="What a job gets that names the preset and does not say otherwise")
    estimate: PresetEstimate | None = Field(description="For the model's defaults; null while no GPU could run that")
    measured: PresetMeasure | None = Field(description="For the same; null before the first such job")


class Model(BaseModel):
    """A served model, in the shape OpenAI's clients read, with what it accepts."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix seconds; 0, for it is not recorded")
    owned_by: str
    architecture: str
    random_weights: bool = Field(description="The output is noise: the model is there to try the service out")
    limits: dict[str, LimitRange] = Field(description="Of parameters, and of the priority")
    image: ImageLimits
    prompt_max_chars: int = Field(description="Of the prompt, and of the negative one")
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
    position: int | None = Field(description="Its place in the line if it were submitted now; 1 is next")
    position_exact: bool | None = Field(description="Whether that was counted; places far back are estimated")
    expected_start: Expected | None = Field(description="If it were submitted now; null where nobody can tell")
    expected_finish: Expected | None
    wait_reason: str | None = Field(description="What would hold it back then; null where it fits nowhere")
    wait: Wait | None
    cost: float | None = Field(description="What its seconds cost; null where the service was not told a price")
    gpus: list[GpuEstimate]
