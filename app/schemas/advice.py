"""The advice on hardware."""

from typing import Literal

from pydantic import BaseModel, Field

from scheduler.advice import Diagnosis, Sureness, Verdict
from scheduler.remedies import RemedyName


class AdviceGpu(BaseModel):
    """How a GPU was used. Shares are in [0, 1]; null where something was not measured."""

    gpu: str
    name: str
    load: float | None = Field(description="The larger of `memory_share` and the mean utilisation")
    memory_share: float | None = Field(description="The most of its memory that was used")
    peak_bytes: int | None
    total_bytes: int
    utilization_percent: float | None = Field(description="The mean of all the time")
    working_percent: float | None = Field(description="The mean of the time in which it had a job")
    hot_share: float | None = Field(description="How much of the time the utilisation was above 80 %")
    busy_share: float = Field(description="How much of the time it had a job")
    online_seconds: float
    diagnosis: Diagnosis = Field(description="What limits it; `cpu_or_io_bound`: it is full and waits for data")


class AdviceGrowth(BaseModel):
    """The growth to expect."""

    high: bool | None = Field(description="Null: there are too few days to tell")
    monthly: float | None = Field(description="As a share: 0.2 is a fifth more each month")
    source: Literal["given", "measured"]
    days: int = Field(description="That the trend was drawn through")


class AdviceStep(BaseModel):
    """A question of the procedure, its answer, and the number that decided it; null: not known."""

    question: str
    answer: bool | None
    value: float | None
    limit: float = Field(description="From which on the answer is yes")


class AdviceSignal(BaseModel):
    """A reason to buy hardware."""

    name: str = Field(
        description="`demand`: jobs that no GPU could hold; `plans_exhausted`; `payback`; `utilization`: above 80 % "
        "for more than 30 % of the time"
    )
    active: bool
    reason: str


class AdviceRefusal(BaseModel):
    """Jobs of a shape that no GPU has the memory for."""

    shape: str = Field(description="Empty: of shapes that were too many to be kept apart")
    code: str = Field(description="`unschedulable` or `out_of_memory`")
    jobs: int
    at_submit: bool = Field(description="Refused at their submit, so that there are no such jobs; else they failed")
    needed_bytes: int | None = Field(description="What those refused at submit needed at most; else null")


class AdvicePayback(BaseModel):
    """What a card costs, and saves each month in the place of the dearest rented GPU."""

    card_price: float
    saved_month: float | None = Field(description="Null where no GPU is rented at a known price")
    months: float | None


class AdviceRemedy(BaseModel):
    """What a change of software would do to all the recorded work, as footprints are predicted here."""

    name: RemedyName
    share: float = Field(description="How many of the attempts it would change, in [0, 1]")
    peak_bytes: int = Field(description="The largest predicted peak as it is")
    new_peak_bytes: int
    memory_gain: float = Field(description="The part of the peak that goes; negative where it grows")
    seconds: float = Field(description="The mean predicted seconds of a video as it is")
    new_seconds: float
    time_gain: float = Field(description="The part of the seconds that goes; negative where it takes longer")


class AdviceFleet(BaseModel):
    """How a fleet does with the arrivals that were recorded, each GPU running one job after another."""

    videos: int
    impossible: int = Field(description="Jobs that no GPU of it can hold")
    wait_seconds_mean: float
    wait_seconds_p95: float
    videos_per_hour: float = Field(description="At most, of jobs such as came")
    cost_per_video: float | None = Field(
        description="Of all its GPUs, from the first arrival to the last end; null where one has no price"
    )


class AdviceCard(BaseModel):
    """A card of the setting `cards`, and the fleet with it."""

    name: str
    memory_bytes: int
    relative_speed: float = Field(description="In multiples of the fleet's first GPU; by the data sheets if not set")
    price: float | None
    hour: float | None
    payback_months: float | None = Field(description="In the place of the dearest rented GPU; null: never, or no price")
    fleet: AdviceFleet


class AdviceComparison(BaseModel):
    """The last arrivals of this time once more, on the fleet as it is and with one more card."""

    arrivals: int
    as_is: AdviceFleet
    cards: list[AdviceCard]


class AdviceReport(BaseModel):
    """What to do about hardware, and all that this rests on."""

    object: Literal["advice"] = "advice"
    since: str
    until: str
    advice: str = Field(description="In one sentence")
    verdict: Verdict
    matrix: Verdict = Field(description="The verdict of load and growth alone; the attempts may overrule it")
    sureness: Sureness
    sureness_reason: str
    load: float | None = Field(description="Of the most loaded GPU")
    growth: AdviceGrowth
    attempts: int = Field(description="That ended in this time")
    steps: list[AdviceStep]
    signals: list[AdviceSignal]
    gpus: list[AdviceGpu]
    refused: list[AdviceRefusal] = Field(
        description="Demand above what the GPUs can hold. Refused submits are counted by the hour: those of the first "
        "hour may have come before `since`"
    )
    payback: AdvicePayback | None = Field(description="Null where no price of a card was asked about")
    remedies: list[AdviceRemedy] = Field(description="The greatest gain first")
    comparison: AdviceComparison | None = Field(description="Null where nothing came, or the fleet has no GPU")
