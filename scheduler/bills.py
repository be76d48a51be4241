"""What GPUs have cost over some time, by several groupings that all come to the same sum.

Money is None wherever a GPU took part whose price is not known: a part of a sum is no sum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scheduler.costs import DAY_SECONDS, Interval
from scheduler.prices import Price, Prices, cost, known_sum

MONTH_SECONDS = 30.0 * DAY_SECONDS


@dataclass(slots=True)
class Line:
    """What some attempts took: `gpu_seconds` of GPUs in `run_seconds`, in which others may have shared them.

    The part of those that failed is told apart. `energy_joules` is what was measured of it. An attempt of several days
    is counted where it ended.
    """

    name: str
    attempts: int = 0
    videos: int = 0
    run_seconds: float = 0.0
    gpu_seconds: float = 0.0
    failed_gpu_seconds: float = 0.0
    energy_joules: float | None = None
    cost: float | None = 0.0
    failed_cost: float | None = 0.0

    def add(self, part: "Line", *, failed: bool) -> None:
        """Add what some more attempts took, and to what failed if they did."""
        self.attempts += part.attempts
        self.videos += part.videos
        self.run_seconds += part.run_seconds
        self.gpu_seconds += part.gpu_seconds
        self.cost = known_sum(self.cost, part.cost)
        if part.energy_joules is not None:
            self.energy_joules = (self.energy_joules or 0.0) + part.energy_joules
        if failed:
            self.failed_gpu_seconds += part.gpu_seconds
            self.failed_cost = known_sum(self.failed_cost, part.cost)

    @property
    def cost_per_video(self) -> float | None:
        """What a video cost, failed attempts included; None where there is none."""
        return None if self.cost is None or not self.videos else self.cost / self.videos


@dataclass(frozen=True, slots=True)
class GpuLine:
    """What a GPU cost for all the time that it was there; `name` and `kind` are None where nobody knows them any more.

    `energy_joules` is what the GPU drew, by its samples; or what its attempts measured, where these do not say.
    """

    gpu_id: str
    name: str | None
    kind: str | None
    price: Price | None
    online_seconds: float
    busy_seconds: float
    energy_joules: float | None

    @property
    def idle_seconds(self) -> float:
        """The time in which no attempt ran on it."""
        return self.online_seconds - self.busy_seconds

    @property
    def cost(self) -> float | None:
        """What all its time cost."""
        return cost(self.price, self.online_seconds)

    @property
    def busy_cost(self) -> float | None:
        """What attempts cost there."""
        return cost(self.price, self.busy_seconds)

    @property
    def idle_cost(self) -> float | None:
        """What was paid for nothing."""
        return cost(self.price, self.idle_seconds)


@dataclass(frozen=True, slots=True)
class Bill:
    """What was spent in `window`. `jobs` is the sum of `tenants`, of `models`, of `days` and of `outcomes`.

    Days are UTC's, `YYYY-MM-DD`. `stages` are the GPU seconds that attempts spent in each, idle time not among them;
    their sum is that of the GPUs' busy seconds. What is known begins `known_seconds` before the end of the window.
    """

    window: Interval
    known_seconds: float
    prices: Prices
    jobs: Line
    gpus: Sequence[GpuLine]
    tenants: Sequence[Line]
    models: Sequence[Line]
    days: Sequence[Line]
    outcomes: Sequence[Line]
    stages: Mapping[str, float]

    @property
    def online_seconds(self) -> float:
        """The time that GPUs were there, of all of them together."""
        return sum(gpu.online_seconds for gpu in self.gpus)

    @property
    def busy_seconds(self) -> float:
        """The time in which attempts ran on them."""
        return sum(gpu.busy_seconds for gpu in self.gpus)

    @property
    def idle_seconds(self) -> float:
        """The time in which none did."""
        return sum(gpu.idle_seconds for gpu in self.gpus)

    @property
    def energy_joules(self) -> float | None:
        """What was measured of the energy that the GPUs drew; None: nothing."""
        known = [gpu.energy_joules for gpu in self.gpus if gpu.energy_joules is not None]
        return sum(known) if known else None

    @property
    def cost(self) -> float | None:
        """What all GPUs cost, energy apart."""
        return self.prices.total(gpu.cost for gpu in self.gpus)

    @property
    def idle_cost(self) -> float | None:
        """What of it was paid for nothing."""
        return self.prices.total(gpu.idle_cost for gpu in self.gpus)

    @property
    def month_cost(self) -> float | None:
        """What 30 days cost at the pace of the window, or of that part of it of which anything is known."""
        spent = self.cost
        return None if spent is None or not self.known_seconds else spent / self.known_seconds * MONTH_SECONDS
