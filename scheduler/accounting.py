"""From attempts, and the time that GPUs were there, to a bill: what `scheduler.costs` divides, added up.

A month may have a hundred thousand attempts: each is looked at once, and what they have in common is added up first.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic_core import from_json

from scheduler.bills import Bill, GpuLine, Line
from scheduler.costs import DAY_SECONDS, Division, Interval, day_of, days, divide
from scheduler.prices import Price, Prices
from scheduler.states import Outcome

RUNNING = "running"  # stands for the outcome of an attempt that has none yet
UNMEASURED = "unmeasured"  # stands for the stage of time of which nobody has told what it went into
_SUCCEEDED = Outcome.SUCCEEDED.value
_GAP = "gap"  # what attempts tell of the time before they ran
_FAILED = frozenset({Outcome.FAILED.value, Outcome.RETRIED.value, Outcome.EXPIRED.value})
_Group = tuple[str, str, int, str]  # tenant, model, day, outcome


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
        by_gpu[run.gpu_id].append(run)
    accounts = _Accounts(window)
    gpus = []
    for gpu_id in sorted({*by_gpu, *(gpu_id for gpu_id, there in fleet.items() if there.online_seconds)}):
        its_runs, there = by_gpu[gpu_id], fleet.get(gpu_id, Presence())
        kind = its_runs[0].gpu_kind if there.kind is None and its_runs else there.kind
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


class _Accounts:
    """What the runs that were entered add up to: by what they have in common, and by stage in GPU seconds.

    `first` is when the first of them began, within the window.
    """

    def __init__(self, window: Interval) -> None:
        self._window = window
        self._midnights = [start for start, _ in days(window)[1:]]
        self._sums: dict[_Group, Line] = defaultdict(lambda: Line(""))
        self.stages: dict[str, float] = defaultdict(float)
        self.first = window[1]

    def enter(self, runs: Sequence[Run], price: Price | None) -> tuple[float, float | None]:
        """Enter all runs of a GPU; returns the seconds in which it was busy, and the energy that they measured."""
        spans = [self._within(run) for run in runs]
        division = divide(spans, self._midnights)
        drawn = [self._enter(run, span, division, price) for run, span in zip(runs, spans, strict=True)]
        if spans:
            self.first = min(self.first, min(spans)[0])
        measured = [joules for joules in drawn if joules is not None]
        return division.busy_seconds, sum(measured) if measured else None

    def lines(self, name: Callable[[_Group], str]) -> Sequence[Line]:
        """Return a line for each name that `name` gives to runs, in the order of the names."""
        found: dict[str, Line] = {}
        for group, part in self._sums.items():
            named = name(group)
            found.setdefault(named, Line(named)).add(part, failed=group[3] in _FAILED)
        for line in found.values():
            if line.cost is None:
                line.failed_cost = None
        return [found[named] for named in sorted(found)]

    def _within(self, run: Run) -> Interval:
        first, last = self._window
        start = max(first, run.started_at)
        return start, last if run.ended_at is None else max(start, min(last, run.ended_at))

    def _enter(self, run: Run, span: Interval, division: Division, price: Price | None) -> float | None:
        """Enter a run, day by day; returns the energy that it measured."""
        share = division.share(*span)
        self._enter_stages(run.stage_seconds, share)
        watts = None
        if run.energy_joules is not None and run.ended_at is not None and run.ended_at > run.started_at:
            watts = run.energy_joules / (run.ended_at - run.started_at)
        parts = days(span)
        for start, end in parts:
            if len(parts) > 1:
                share = division.share(start, end)
            line = self._sums[run.tenant, run.model, day_of(start), run.outcome or RUNNING]
            line.run_seconds += end - start
            line.gpu_seconds += share
            if line.cost is not None:
                line.cost = None if price is None else line.cost + share * price.hour / 3600
            if watts is not None:
                line.energy_joules = (line.energy_joules or 0.0) + watts * (end - start)
        line.attempts += 1  # on the last day
        if run.outcome == _SUCCEEDED and run.ended_at is not None and run.ended_at <= self._window[1]:
            line.videos += 1
        return None if watts is None else watts * (span[1] - span[0])

    def _enter_stages(self, stage_seconds: str | None, share: float) -> None:
        """Divide what a run has of the GPU as its own time was divided."""
        told = from_json(stage_seconds) if stage_seconds else {}
        told.pop(_GAP, None)
        whole = sum(told.values())
        if whole <= 0:
            self.stages[UNMEASURED] += share
            return
        for stage, seconds in told.items():
            self.stages[stage] += share * (seconds / whole)


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_SECONDS, UTC).date().isoformat()
