"""From attempts, and the time that GPUs were there, to a bill: what `scheduler.costs` divides, added up.

A month may have a hundred thousand attempts: each is looked at once, and what they have in common is added up first.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import NamedTuple

from pydantic_core import from_json

from scheduler.bills import Bill, GpuLine, Line
from scheduler.costs import DAY_SECONDS, Division, Interval, days, divide
from scheduler.prices import Price, Prices
from scheduler.states import Outcome

RUNNING = "running"  # stands for the outcome of an attempt that has none yet
UNMEASURED = "unmeasured"  # stands for the stage of time of which nobody has told what it went into
_SUCCEEDED = Outcome.SUCCEEDED.value
_GAP = "gap"  # what attempts tell of the time before they ran
_FAILED = frozenset({Outcome.FAILED.value, Outcome.RETRIED.value, Outcome.EXPIRED.value})
_started_at = itemgetter(4)  # of a run
_Group = tuple[str, str, float, str, float | None]  # tenant, model, day, outcome, price of an hour

_Part = tuple[float, float, float]  # of a run: its day, its seconds, and those of the GPU that are its own


class Run(NamedTuple):
    """An attempt as it is reckoned with; it still runs where `ended_at` and `outcome` are None."""

    gpu_id: str
    gpu_kind: str
    tenant: str
    model: str
    started_at: float
    ended_at: float | None
    outcome: str | None
    energy_joules: float | None = None
    stage_seconds: str | None = None  # JSON: an object of seconds by stage


@dataclass(frozen=True, slots=True)
class Presence:
    """A GPU as far as it is known, and how long it was there; energy is None where it was not measured."""

    name: str | None = None
    kind: str | None = None
    online_seconds: float = 0.0
    energy_joules: float | None = None


def bill(runs: Iterable[Run], fleet: Mapping[str, Presence], prices: Prices, window: Interval) -> Bill:
    """Return what was spent in `window`, with which each of the runs overlaps.

    `fleet` are the GPUs of which more is known than what they ran. One that was busy for longer than it is known to
    have been there was there for so long; one that was not there is left out.
    """
    by_gpu: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_gpu[run[0]].append(run)
    accounts = _Accounts(window)
    gpus = []
    for gpu_id in sorted({*by_gpu, *(gpu_id for gpu_id, there in fleet.items() if there.online_seconds)}):
        its_runs, there = by_gpu[gpu_id], fleet.get(gpu_id, Presence())
        kind = its_runs[0][1] if there.kind is None and its_runs else there.kind
        price = prices.of(gpu_id, there.name, kind)
        busy_seconds, energy_joules = accounts.enter(its_runs, price)
        gpus.append(
            GpuLine(
                gpu_id=gpu_id,
                name=there.name,
                kind=kind,
                price=price,
                online_seconds=max(there.online_seconds, busy_seconds),
                busy_seconds=busy_seconds,
                energy_joules=energy_joules if there.energy_joules is None else there.energy_joules,
            )
        )
    start, end = window
    everything = accounts.lines(lambda _: "")
    nothing = prices.total(())
    longest = max((gpu.online_seconds for gpu in gpus), default=0.0)
    return Bill(
        window=window,
        known_seconds=min(end - start, max(longest, end - accounts.first)),
        prices=prices,
        jobs=everything[0] if everything else Line("", cost=nothing, failed_cost=nothing),
        gpus=gpus,
        tenants=accounts.lines(lambda group: group[0]),
        models=accounts.lines(lambda group: group[1]),
        days=accounts.lines(lambda group: _date(group[2])),
        outcomes=accounts.lines(lambda group: group[3]),
        stages=accounts.stages,
    )


@dataclass(slots=True)
class _Sum:
    """What the runs of a group add up to, as in a `Line`."""

    attempts: int = 0
    videos: int = 0
    run_seconds: float = 0.0
    gpu_seconds: float = 0.0
    energy_joules: float | None = None


class _Accounts:
    """What the runs that were entered add up to: by what they have in common, and by stage in GPU seconds.

    `first` is when the first of them began, within the window.
    """

    def __init__(self, window: Interval) -> None:
        self._window = window
        self._sums: dict[_Group, _Sum] = defaultdict(_Sum)
        self.stages: dict[str, float] = defaultdict(float)
        self.first = window[1]

    def enter(self, runs: Iterable[Run], price: Price | None) -> tuple[float, float | None]:
        """Enter all runs of a GPU; returns the seconds in which it was busy, and the energy that they measured."""
        busy_seconds, drawn = 0.0, None
        hour = None if price is None else price.hour
        for together, spans in self._clusters(runs):
            start, end = spans[0]
            day = start // DAY_SECONDS
            if len(spans) == 1 and end <= (day + 1) * DAY_SECONDS:  # as nearly all of them
                busy_seconds += end - start
                whole = ((day, end - start, end - start),)
                measured = [self._enter(together[0], whole, hour)]
            else:
                division = divide(spans, [start for span in spans for start, _ in days(span)])
                busy_seconds += division.busy_seconds
                measured = [
                    self._enter(run, _parts(span, division), hour) for run, span in zip(together, spans, strict=True)
                ]
            for joules in measured:
                if joules is not None:
                    drawn = joules if drawn is None else drawn + joules
        return busy_seconds, drawn

    def lines(self, name: Callable[[_Group], str]) -> Sequence[Line]:
        """Return a line for each name that `name` gives to runs, in the order of the names."""
        found: dict[str, Line] = {}
        for group, part in self._sums.items():
            named = name(group)
            _, _, _, outcome, hour = group
            whole = Line(
                named,
                part.attempts,
                part.videos,
                part.run_seconds,
                part.gpu_seconds,
                energy_joules=part.energy_joules,
                cost=None if hour is None else part.gpu_seconds * hour / 3600,
            )
            found.setdefault(named, Line(named)).add(whole, failed=outcome in _FAILED)
        for line in found.values():
            if line.cost is None:
                line.failed_cost = None
        return [found[named] for named in sorted(found)]

    def _clusters(self, runs: Iterable[Run]) -> Iterator[tuple[Sequence[Run], Sequence[Interval]]]:
        """Yield the runs that run together, with their times in the window; most are alone."""
        first, last = self._window
        together: list[Run] = []
        spans: list[Interval] = []
        reached = first
        for run in sorted(runs, key=_started_at):
            began, ended = run[4], run[5]
            start = began if began > first else first
            end = last if ended is None or ended > last else ended
            end = end if end > start else start
            if spans and start >= reached:
                self.first = min(self.first, spans[0][0])
                yield together, spans
                together, spans = [], []
            together.append(run)
            spans.append((start, end))
            reached = end if end > reached else reached
        if spans:
            self.first = min(self.first, spans[0][0])
            yield together, spans

    def _enter(self, run: Run, parts: Sequence[_Part], hour: float | None) -> float | None:
        """Enter a run, day by day; returns the energy that it measured."""
        _, _, tenant, model, began, ended, outcome, joules, stage_seconds = run
        watts = None if joules is None or ended is None or ended <= began else joules / (ended - began)
        lasted = shared = 0.0
        for day, seconds, share in parts:
            total = self._sums[tenant, model, day, outcome or RUNNING, hour]
            total.run_seconds += seconds
            total.gpu_seconds += share
            if watts is not None:
                total.energy_joules = (total.energy_joules or 0.0) + watts * seconds
            lasted += seconds
            shared += share
        total.attempts += 1  # on the last day
        if outcome == _SUCCEEDED and ended is not None and ended <= self._window[1]:
            total.videos += 1
        if stage_seconds:
            self._enter_stages(stage_seconds, shared)
        else:
            self.stages[UNMEASURED] += shared
        return None if watts is None else watts * lasted

    def _enter_stages(self, stage_seconds: str, share: float) -> None:
        """Divide what a run has of the GPU as its own time was divided."""
        told = from_json(stage_seconds)
        told.pop(_GAP, None)
        whole = sum(told.values())
        stages = self.stages
        if whole <= 0:
            stages[UNMEASURED] += share
            return
        part = share / whole
        for stage, seconds in told.items():
            stages[stage] += part * seconds


def _parts(span: Interval, division: Division) -> Sequence[_Part]:
    return [(start // DAY_SECONDS, end - start, division.share(start, end)) for start, end in days(span)]


def _date(day: float) -> str:
    return datetime.fromtimestamp(day * DAY_SECONDS, UTC).date().isoformat()
