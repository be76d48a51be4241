"""What ran where and when."""

from typing import Literal

from pydantic import BaseModel, Field


class TimelineAttempt(BaseModel):
    """An attempt that has a bar of its own."""

    job: str
    lease: int = Field(description="Counts the attempts of the job, those given back included")
    number: int = Field(description="Counts those that it may have only so many of")
    tenant: str
    model: str
    plan: str
    shape: str
    predicted_seconds: float
    predicted_vram_bytes: int
    vram_peak_bytes: int | None = Field(description="Measured; null where it was not")
    error_code: str | None = Field(description="Why it did not succeed: `out_of_memory`, `worker_lost` and others")


class TimelineBar(BaseModel):
    """An attempt, or a block of several that follow each other and are too short to be told apart."""

    lane: int = Field(description="From 0; bars of one lane do not overlap by more than can be seen")
    began_at: str
    ended_at: str | None = Field(description="Null while it runs")
    outcome: str = Field(
        description="`running`, `succeeded`, `failed`, `retried`, `released`, `cancelled` or `expired`; of a block how"
        " most of it ended"
    )
    outcomes: dict[str, int] = Field(description="How many ended how")
    attempts: int
    attempt: TimelineAttempt | None = Field(description="Null of a block")


class TimelineCurve(BaseModel):
    """Means of what was seen of a GPU: a value for each step, null where nobody looked."""

    since: str = Field(description="When the first step begins")
    step_seconds: int
    used_bytes: list[int | None]
    reserved_bytes: list[int | None] = Field(description="Promised to worker processes and running jobs")
    foreign_bytes: list[int | None] = Field(description="Held by others, the driver included")
    utilization_percent: list[float | None]


class TimelineGpu(BaseModel):
    """A GPU over the time."""

    gpu: str
    host: str | None = Field(description="Null where the GPU is no longer registered; so are name and total_bytes")
    name: str | None
    total_bytes: int | None
    bars: list[TimelineBar] = Field(description="In the order in which they began, at most 600")
    curve: TimelineCurve | None = Field(description="Null where nobody looked in this time")


class Timeline(BaseModel):
    """What ran on each GPU between two times: all that overlaps them, and what is known of it by now."""

    object: Literal["timeline"] = "timeline"
    since: str
    until: str
    resolution_seconds: float = Field(description="What is shorter cannot be seen: a 600th of the time")
    gpus: list[TimelineGpu]
