"""Whether to buy hardware, change software, or leave everything as it is: decided by rules from recorded numbers. Pure.

`load = max(peak memory / total memory, mean utilisation / 100)` of each GPU. The most loaded one, against the growth to
expect, gives one of four verdicts; what the attempts tell may overrule it. The published example of this procedure,
22.1 of 24 GB at a utilisation of 95 % with high growth, is given there as a load of 92 %, the share of the memory
alone. By its own formula it is 95 %, and that is what comes out here; the verdict, to advance capacity, is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from scheduler.remedies import Remedy

HIGH_LOAD = 0.70
HIGH_GROWTH = 0.20  # a month: at this pace, work doubles in four
FULL_MEMORY = 0.90
BUSY_PERCENT = 80.0  # a GPU that computes this much is bound by it
STARVED_MEMORY, STARVED_PERCENT = 0.80, 50.0  # one that is so full and computes less, with work, waits for data
IDLE_SHARE = 0.10  # of the time; with less work than this a GPU is idle
HOT_SHARE = 0.30  # of the time with a utilisation above 80 %
OFTEN_OUT_OF_MEMORY = 0.02  # of the attempts
MOSTLY_LEANEST = 0.90  # of the attempts
GOOD_PAYBACK_MONTHS = 12.0
LEAST_TREND_DAYS = 3  # that a trend is drawn through
_MONTH_DAYS = 30.0
SURE = (7.0, 200)  # days watched, and attempts, from which the advice is sure
FAIRLY_SURE = (2.0, 30)


class Verdict(StrEnum):
    """What to do."""

    KEEP = "keep"
    OPTIMISE = "optimise_software"
    WATCH = "plan_and_watch"
    ADVANCE = "advance_capacity"
    UNKNOWN = "unknown"  # nothing was measured


class Diagnosis(StrEnum):
    """What limits a GPU."""

    IDLE = "idle"
    MEMORY = "memory_bound"
    COMPUTE = "compute_bound"
    STARVED = "cpu_or_io_bound"  # its memory is full, and it waits for data
    BALANCED = "balanced"  # nothing does
    UNKNOWN = "unknown"


class Sureness(StrEnum):
    """How much the advice can be relied on."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """How a GPU was used in `seconds`, in `busy_seconds` of which it had a job. None: not measured.

    `utilization_percent` is the mean of all that time; `hot_share` how much of it that was above 80, in [0, 1].
    """

    gpu_id: str
    name: str
    total_bytes: int
    peak_bytes: float | None
    utilization_percent: float | None
    hot_share: float | None
    seconds: float
    busy_seconds: float

    @property
    def memory_share(self) -> float | None:
        """The most of its memory that was used, in [0, 1]."""
        return None if self.peak_bytes is None else self.peak_bytes / self.total_bytes

    @property
    def load(self) -> float | None:
        """The larger of the peak memory's share and the mean utilisation; None where neither was measured."""
        known = [self.memory_share, None if self.utilization_percent is None else self.utilization_percent / 100]
        return max((share for share in known if share is not None), default=None)

    @property
    def busy_share(self) -> float:
        """How much of the time it had a job, in [0, 1]."""
        return self.busy_seconds / self.seconds if self.seconds else 0.0

    @property
    def working_percent(self) -> float | None:
        """The mean utilisation while it had a job, which is what idle time cannot hide: without one there is none."""
        if self.utilization_percent is None or not self.busy_share:
            return None
        return min(100.0, self.utilization_percent / self.busy_share)

    @property
    def diagnosis(self) -> Diagnosis:
        """What limits it."""
        working, memory = self.working_percent, self.memory_share
        if not self.seconds or memory is None:
            return Diagnosis.UNKNOWN
        if self.busy_share < IDLE_SHARE:
            return Diagnosis.IDLE
        if working is not None and working >= BUSY_PERCENT:
            return Diagnosis.COMPUTE
        if memory >= STARVED_MEMORY and working is not None and working < STARVED_PERCENT:
            return Diagnosis.STARVED
        if memory >= FULL_MEMORY:
            return Diagnosis.MEMORY
        return Diagnosis.BALANCED if working is not None else Diagnosis.UNKNOWN


@dataclass(frozen=True, slots=True)
class Growth:
    """The growth to expect: whether it is `high`, and how much a month, as a share. None: not known.

    It is `given`, or the trend of so many `days`.
    """

    high: bool | None
    monthly: float | None = None
    given: bool = False
    days: int = 0

    @classmethod
    def expected(cls, monthly: float) -> Self:
        """Return a growth that somebody expects, as a share a month."""
        return cls(monthly >= HIGH_GROWTH, monthly, given=True)


@dataclass(frozen=True, slots=True)
class Refused:
    """Jobs of a shape that no GPU had the memory for: `code` is `unschedulable` or `out_of_memory`.

    Those that were refused `at_submit` needed `needed_bytes`, at most; the others were in the queue, and failed. Shapes
    that were too many to be kept apart are `""`.
    """

    shape: str
    code: str
    jobs: int
    at_submit: bool = False
    needed_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Payback:
    """What a card costs, and what it saves a month; None where no GPU is paid for by the hour at a known price."""

    card_price: float
    saved_month: float | None

    @property
    def months(self) -> float | None:
        """After how long the card is paid for; None: never."""
        return self.card_price / self.saved_month if self.saved_month else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was recorded of a time: `attempts` that ended in it, those `out_of_memory`, those `on_leanest` plan.

    `out_of_memory` and `on_leanest` are parts of `attempts`. `remedies` have the greatest gain first.
    """

    gpus: Sequence[GpuUse] = ()
    growth: Growth
    attempts: int = 0
    out_of_memory: int = 0
    on_leanest: int = 0
    refused: Sequence[Refused] = ()
    payback: Payback | None = None
    remedies: Sequence[Remedy] = ()

    @property
    def heaviest(self) -> GpuUse | None:
        """The GPU with the highest load."""
        measured = [gpu for gpu in self.gpus if gpu.load is not None]
        return max(measured, key=lambda gpu: gpu.load or 0.0, default=None)

    @property
    def watched_days(self) -> float:
        """For how long the GPU was watched that was watched the longest."""
        return max((gpu.seconds for gpu in self.gpus), default=0.0) / 86_400

    @property
    def out_of_memory_rate(self) -> float | None:
        """How many of the attempts ran out of memory, in [0, 1]."""
        return self.out_of_memory / self.attempts if self.attempts else None

    @property
    def leanest_share(self) -> float | None:
        """How many of the attempts ran under the leanest plan that their GPU has, in [0, 1]."""
        return self.on_leanest / self.attempts if self.attempts else None


@dataclass(frozen=True, slots=True)
class Step:
    """A question of the procedure: its answer, and the `value` against the `limit` that decides it. None: not known."""

    question: str
    answer: bool | None
    value: float | None
    limit: float


@dataclass(frozen=True, slots=True)
class Signal:
    """A reason to buy hardware: whether it is there, and why, in a sentence."""

    name: str
    active: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, and what that rests on. `matrix` is the verdict of load and growth alone, before all else."""

    evidence: Evidence
    verdict: Verdict
    matrix: Verdict
    sentence: str
    sureness: Sureness
    sureness_reason: str
    steps: Sequence[Step]
    signals: Sequence[Signal]


def trend(daily: Sequence[float]) -> Growth:
    """Return the growth that a straight line through the work of some days has, the oldest first, by least squares."""
    count = len(daily)
    mean = sum(daily) / count if count else 0.0
    if count < LEAST_TREND_DAYS or mean <= 0:
        return Growth(None, days=count)
    middle = (count - 1) / 2
    spread = sum((day - middle) ** 2 for day in range(count))
    slope = sum((day - middle) * (work - mean) for day, work in enumerate(daily)) / spread
    monthly = slope / mean * _MONTH_DAYS
    return Growth(monthly >= HIGH_GROWTH, monthly, days=count)


def quadrant(load: float | None, growth: Growth) -> Verdict:
    """Return what load and growth alone say."""
    if load is None:
        return Verdict.UNKNOWN
    if load >= HIGH_LOAD:
        return Verdict.ADVANCE if growth.high else Verdict.OPTIMISE
    return Verdict.WATCH if growth.high else Verdict.KEEP


def advise(evidence: Evidence) -> Advice:
    """Return what to do.

    The verdict is the matrix's, with these exceptions. A GPU that waits for data would do so with a faster one beside
    it, and one without work needs no help. Where jobs often run out of memory, it is software while there are leaner
    plans, and then hardware.
    """
    heaviest = evidence.heaviest
    matrix = quadrant(heaviest.load if heaviest else None, evidence.growth)
    steps = _steps(evidence)
    often, _, leanest, _ = (step.answer for step in steps)
    verdict, why = matrix, _by_matrix(evidence, heaviest)
    if often:
        verdict = Verdict.ADVANCE if leanest else Verdict.OPTIMISE
        why = f"{_percent(evidence.out_of_memory_rate)} of the attempts ran out of memory" + (
            ", under the leanest plans already" if leanest else ", and there are leaner plans"
        )
    elif heaviest is not None and heaviest.diagnosis is Diagnosis.STARVED:
        verdict = Verdict.OPTIMISE
        why = (
            f"{heaviest.name} has full memory and computes {heaviest.working_percent:.0f} % of the time that it works: "
        )
        why += "it waits for the CPU, the disk or the network"
    elif heaviest is not None and heaviest.diagnosis is Diagnosis.IDLE:
        verdict = Verdict.WATCH if evidence.growth.high else Verdict.KEEP
        why = f"even the most loaded GPU, {heaviest.name}, had work in only {_percent(heaviest.busy_share)} of the time"
    sureness, reason = _sureness(evidence)
    return Advice(
        evidence=evidence,
        verdict=verdict,
        matrix=matrix,
        sentence=_sentence(verdict, why, _remedy(evidence)),
        sureness=sureness,
        sureness_reason=reason,
        steps=steps,
        signals=_signals(evidence),
    )


def _steps(evidence: Evidence) -> tuple[Step, Step, Step, Step]:
    known = [gpu.utilization_percent for gpu in evidence.gpus if gpu.utilization_percent is not None]
    utilization = max(known, default=None)
    growth = evidence.growth
    return (
        _step("Do attempts often run out of memory?", evidence.out_of_memory_rate, OFTEN_OUT_OF_MEMORY),
        _step("Is a GPU's mean utilisation high?", None if utilization is None else utilization / 100, HIGH_LOAD),
        _step("Do most attempts run under the leanest plan already?", evidence.leanest_share, MOSTLY_LEANEST),
        Step("Is much growth to be expected, a month?", growth.high, growth.monthly, HIGH_GROWTH),
    )


def _step(question: str, value: float | None, limit: float) -> Step:
    return Step(question, None if value is None else value >= limit, value, limit)


def _signals(evidence: Evidence) -> Sequence[Signal]:
    refused = sum(one.jobs for one in evidence.refused)
    shapes = sorted({one.shape or "others" for one in evidence.refused})
    named = ", ".join(shapes[:3]) + (", …" if len(shapes) > 3 else "")
    hottest = max((gpu.hot_share for gpu in evidence.gpus if gpu.hot_share is not None), default=None)
    leanest = evidence.leanest_share
    return (
        Signal(
            "demand",
            refused > 0,
            f"{refused} jobs were refused or failed for want of memory: {named}"
            if refused
            else "no job was refused or failed for want of memory",
        ),
        Signal(
            "plans_exhausted",
            leanest is not None and leanest >= MOSTLY_LEANEST,
            "no attempt has ended" if leanest is None else f"{_percent(leanest)} of the attempts had the leanest plan",
        ),
        _payback(evidence.payback),
        Signal(
            "utilization",
            hottest is not None and hottest > HOT_SHARE,
            "no utilisation was measured"
            if hottest is None
            else f"a GPU was above {BUSY_PERCENT:.0f} % utilisation for {_percent(hottest)} of the time",
        ),
    )


def _payback(payback: Payback | None) -> Signal:
    if payback is None:
        return Signal("payback", active=False, reason="no price of a card was given")
    if payback.months is None:
        return Signal("payback", active=False, reason="no GPU is rented at a known price, so a card saves nothing")
    good = payback.months <= GOOD_PAYBACK_MONTHS
    return Signal(
        "payback", good, f"in place of the dearest rented GPU, a card is paid for in {payback.months:.1f} months"
    )


def _by_matrix(evidence: Evidence, heaviest: GpuUse | None) -> str:
    if heaviest is None:
        return "nothing was measured of any GPU"
    growth = evidence.growth
    said = "growth is not known yet"
    if growth.high is not None:
        kind = "expected" if growth.given else "measured"
        said = f"{kind} growth is {'high' if growth.high else 'low'}"
        said += "" if growth.monthly is None else f", {growth.monthly * 100:+.0f} % a month"
    return f"the load of {heaviest.name} is {_percent(heaviest.load)} and {said}"


_DO = {
    Verdict.KEEP: "Keep what you have",
    Verdict.OPTIMISE: "Optimise the software before you buy",
    Verdict.WATCH: "Plan for more and watch the load",
    Verdict.ADVANCE: "Advance capacity",
    Verdict.UNKNOWN: "There is nothing to advise yet",
}


def _remedy(evidence: Evidence) -> Remedy | None:
    """The remedy that gains the most of what is lacking, memory or time; None where none gains any of it."""
    limit = evidence.heaviest.diagnosis if evidence.heaviest else Diagnosis.UNKNOWN
    if (evidence.out_of_memory_rate or 0.0) >= OFTEN_OUT_OF_MEMORY:
        limit = Diagnosis.MEMORY
    if limit is Diagnosis.STARVED:
        return None
    computing = limit is Diagnosis.COMPUTE
    gains = [(one.time_gain if computing else one.memory_gain, one) for one in evidence.remedies]
    gain, best = max(gains, key=lambda pair: pair[0], default=(0.0, None))
    return best if gain > 0 else None


def _sentence(verdict: Verdict, why: str, best: Remedy | None) -> str:
    if best is None or verdict not in (Verdict.OPTIMISE, Verdict.ADVANCE):
        return f"{_DO[verdict]}: {why}."
    return f"{_DO[verdict]}: {why}; {best.name.words} would {best.gain}."


def _sureness(evidence: Evidence) -> tuple[Sureness, str]:
    days, attempts = evidence.watched_days, evidence.attempts
    rests = f"it rests on {days:.1f} days of samples and {attempts} attempts"
    if evidence.heaviest is None:
        return Sureness.LOW, "no GPU's memory or utilisation was sampled in this time"
    if evidence.growth.high is None:
        return Sureness.LOW, f"{rests}, too few days for a trend"
    for sureness, (least_days, least_attempts) in ((Sureness.HIGH, SURE), (Sureness.MEDIUM, FAIRLY_SURE)):
        # A GPU is away now and then: nine tenths of the time are as good as all of it.
        if days >= 0.9 * least_days and attempts >= least_attempts:
            return sureness, rests
    return Sureness.LOW, rests


def _percent(share: float | None) -> str:
    return "an unknown part" if share is None else f"{share * 100:.0f} %"
