"""The report of costs."""

from typing import Literal

from pydantic import BaseModel, Field

from scheduler.prices import Terms


class GpuPrice(BaseModel):
    """What an hour of a GPU costs."""

    hour: float
    terms: Terms | None = Field(description="How it is paid for; null where nobody has said")


class CostPrices(BaseModel):
    """The prices in force, in one currency; null where none was set."""

    default: GpuPrice | None = Field(description="Of every GPU that has no price of its own")
    gpus: dict[str, GpuPrice] = Field(description="By a GPU's id, name or kind")
    energy_kwh: float | None


class CostLine(BaseModel):
    """What some attempts took. At each moment, a GPU's time is divided equally among the attempts that run on it."""

    name: str = Field(description="The tenant, model, day (UTC) or outcome; empty for all together")
    attempts: int = Field(description="That ran; those of several days are counted on the last")
    videos: int = Field(description="That were finished")
    run_seconds: float = Field(description="How long the attempts ran, whether or not others shared the GPU")
    gpu_seconds: float = Field(description="Their part of the GPUs' time")
    cost: float | None = Field(description="What it cost; null where a GPU of theirs has no price")
    cost_per_video: float | None = Field(description="Failed attempts included, idle time not; null without a video")
    failed_gpu_seconds: float = Field(
        description="Of `gpu_seconds`, that of attempts that failed, were lost or retried"
    )
    failed_cost: float | None
    energy_joules: float | None = Field(description="As far as it was measured; null where nothing was")
    energy_cost: float | None


class GpuCost(BaseModel):
    """What a GPU cost, for all the time that it was online: `busy` with attempts, or `idle`."""

    gpu: str
    name: str | None = Field(description="Null where the GPU is no longer registered")
    kind: str | None
    price: GpuPrice | None
    online_seconds: float
    busy_seconds: float
    idle_seconds: float
    cost: float | None
    busy_cost: float | None
    idle_cost: float | None
    energy_joules: float | None = Field(description="What it drew by its samples, or else what its attempts measured")
    energy_cost: float | None


class CostStage(BaseModel):
    """The part of the GPUs' online time that attempts spent in a stage."""

    stage: str = Field(
        description="`loading`, `encoding`, `denoising`, `decoding`, `muxing`; `waiting` for another job on the GPU; "
        "`unmeasured`: of attempts that could not tell; `idle`: no attempt ran"
    )
    gpu_seconds: float
    share: float = Field(description="Of the online time, in [0, 1]")


class CostTotal(BaseModel):
    """All GPUs together. `cost` is the jobs' and the idle time's; energy comes on top of it."""

    online_seconds: float
    busy_seconds: float
    idle_seconds: float
    cost: float | None
    idle_cost: float | None
    cost_per_video: float | None = Field(description="Idle time included; null without a video")
    projected_month: float | None = Field(
        description="30 days at the pace of the window, or of its part since the first that is known"
    )
    energy_joules: float | None
    energy_kwh: float | None
    energy_cost: float | None


class CostReport(BaseModel):
    """What GPUs have cost between two times. The sums agree: by whatever the jobs' cost is divided, it is the same."""

    object: Literal["costs"] = "costs"
    since: str = Field(description="When the report begins: not before the oldest attempts that are kept")
    until: str
    prices: CostPrices
    total: CostTotal
    jobs: CostLine = Field(description="All attempts; `total.cost` is theirs and `total.idle_cost`")
    gpus: list[GpuCost]
    tenants: list[CostLine]
    models: list[CostLine]
    days: list[CostLine]
    outcomes: list[CostLine] = Field(description="By how the attempts ended; `running`: they have not")
    stages: list[CostStage] = Field(description="They add up to the online time")
