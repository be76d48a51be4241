"""What advice rests on, read from the store: samples of GPUs, attempts that have ended, what no GPU could hold."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from scheduler.advice import Evidence, GpuUse, Growth, Payback, Refused, trend
from scheduler.errors import InvalidParameter
from scheduler.footprints import Footprints
from scheduler.out_of_memory import OUT_OF_MEMORY
from scheduler.params import VideoParams
from scheduler.plans import usable
from scheduler.policy import Policy
from scheduler.prices import Price, Prices, Terms, cost
from scheduler.records import Gpu
from scheduler.remedies import Work, remedies
from scheduler.replay import Arrival, Card, Comparison, Seat, compare
from scheduler.samples import Samples, Totals
from scheduler.states import JobStatus
from scheduler.store import demand, machines, reads, script
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.store.script import Statement

_DAY = 86_400.0
_USUAL_SECONDS = 7 * _DAY
_MONTH_SECONDS = 30 * _DAY
_REPLAYED = 2000  # arrivals, at most
_REFUSED = ("unschedulable", OUT_OF_MEMORY)
_RENTED = frozenset({Terms.ON_DEMAND, Terms.SPOT})
# A hundred thousand attempts are some hundred kinds of them: the database adds up those alike.
_ENDED = Statement(f"""
    SELECT gpu_id, gpu_kind, model, plan, shape, floor((:until - ended_at) / {_DAY}) AS age,
           count(*) AS attempts, count(CASE WHEN error_code = '{OUT_OF_MEMORY}' THEN 1 END) AS out_of_memory,
           sum(ended_at - started_at) AS seconds,
           count(CASE WHEN outcome = 'succeeded' AND steps > 0 THEN 1 END) AS finished,
           coalesce(sum(CASE WHEN outcome = 'succeeded' AND steps > 0 THEN steps END), 0) AS steps
    FROM attempts WHERE ended_at > :since AND ended_at <= :until
    GROUP BY gpu_id, gpu_kind, model, plan, shape, age
""")  # noqa: S608  our own words


class _Ended(NamedTuple):
    """Attempts alike: `age` is in whole days before the end of the window, `seconds` what they ran in all.

    `finished` of them succeeded and told their `steps`.
    """

    gpu_id: str
    gpu_kind: str
    model: str
    plan: str
    shape: str
    age: float
    attempts: int
    out_of_memory: int
    seconds: float
    finished: int
    steps: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """The evidence of a window: since, until, in seconds since 1970 by the database's clock.

    `saved_month` is what the rented GPU that costs the most costs in a month. `comparison` is of the last jobs that
    came in the window, as far as they are kept.
    """

    window: tuple[float, float]
    evidence: Evidence
    saved_month: float | None
    comparison: Comparison | None


class EvidenceReader:
    """The evidence of any time, as far back as attempts are kept under `policy`. Thread-safe."""

    def __init__(self, database: Database, samples: Samples, footprints: Footprints, policy: Policy) -> None:
        self._database = database
        self._samples = samples
        self._footprints = footprints
        self._policy = policy

    def read(
        self,
        prices: Prices,
        *,
        since: float | None = None,
        until: float | None = None,
        growth: Growth | None = None,
        card_price: float | None = None,
        cards: Iterable[Card] = (),
    ) -> Recorded:
        """Return the evidence of [since, until); the default is until now, and the 7 days before.

        Times are seconds since 1970 by the database's clock. `growth` takes the place of the measured one.
        `cards` are compared by replaying the last arrivals.
        Of GPUs that are no longer registered only the attempts count. Raises `InvalidParameter` where nothing is left
        of the window.
        """
        with self._database.read() as conn:
            now = self._database.now(conn)
            end = now if until is None else min(until, now)
            start = max(now - self._policy.retention_seconds, end - _USUAL_SECONDS if since is None else since)
            if start >= end:
                raise InvalidParameter("since", "must be before until and now, and until in the time that is kept")
            fleet = machines.gpus(conn, online_since=now)
            served = reads.models(conn)
            ended = _ended(conn, start, end)
            refused = _refused(conn, start, end)
            arrivals = _arrivals(conn, start, end)
        totals = self._samples.totals(start, end)
        tally = _tally(ended, {gpu.info.id: gpu.info.plans for gpu in fleet})
        plans: dict[str, set[str]] = defaultdict(set)
        for gpu in fleet:
            plans[gpu.info.kind].update(gpu.info.plans)
        seen = [gpu for gpu in fleet if gpu.info.id in totals]
        saved_month = _dearest_rent(seen, totals, prices, end - start)
        predictor = self._footprints.current()
        evidence = Evidence(
            gpus=[_use(gpu, totals[gpu.info.id]) for gpu in seen],
            growth=growth or trend(tally.daily(start, end)),
            attempts=tally.attempts,
            out_of_memory=tally.out_of_memory,
            on_leanest=tally.on_leanest,
            refused=refused,
            payback=None if card_price is None else Payback(card_price, saved_month),
            remedies=remedies(tally.work(), served, predictor, plans),
        )
        seats = [Seat(gpu, hour=price.hour if (price := _price(gpu, prices)) else None) for gpu in seen]
        comparison = compare(seats, cards, arrivals, served, predictor, self._policy)
        return Recorded((start, end), evidence, saved_month, comparison)


def _ended(conn: Connection, since: float, until: float) -> Sequence[_Ended]:
    return [_Ended._make(row) for row in script.tuples(conn, _ENDED, {"since": since, "until": until})]


@dataclass(slots=True)
class _Tally:
    attempts: int = 0
    out_of_memory: int = 0
    on_leanest: int = 0
    by_age: dict[int, float] = field(
        default_factory=lambda: defaultdict(float)
    )  # seconds run, by whole days before the end
    kinds: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # model, GPU kind, plan, shape
    finished: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    steps: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # of those that finished

    def daily(self, since: float, until: float) -> list[float]:
        """The seconds of each whole day of the window, the oldest first, from the first with any.

        That one is left out where it is not the window's first: nobody knows how much of it there was.
        """
        days = int((until - since) / _DAY)
        if not self.by_age or not days:
            return []
        oldest = max(self.by_age)
        first = days - 1 if oldest >= days - 1 else oldest - 1
        return [self.by_age.get(age, 0.0) for age in range(first, -1, -1)]

    def work(self) -> list[Work]:
        """What ran, by its needs; steps are the mean of those that finished."""
        return [
            Work(*kind, attempts=count, steps=self.steps[kind] / done if (done := self.finished[kind]) else None)
            for kind, count in self.kinds.items()
        ]


def _tally(ended: Iterable[_Ended], plans: Mapping[str, Sequence[str]]) -> _Tally:
    """Add the attempts up; `plans` are those that workers run, by GPU."""
    leanest = {gpu_id: usable(names, allow_int8=False)[-1:] for gpu_id, names in plans.items()}
    tally = _Tally()
    for one in ended:
        tally.attempts += one.attempts
        tally.out_of_memory += one.out_of_memory
        if one.plan in leanest.get(one.gpu_id, ()):
            tally.on_leanest += one.attempts
        tally.by_age[int(one.age)] += one.seconds
        kind = (one.model, one.gpu_kind, one.plan, one.shape)
        tally.kinds[kind] += one.attempts
        tally.finished[kind] += one.finished
        tally.steps[kind] += one.steps
    return tally


def _use(gpu: Gpu, seen: Totals) -> GpuUse:
    return GpuUse(
        gpu_id=gpu.info.id,
        name=gpu.info.name,
        total_bytes=gpu.info.total_bytes,
        peak_bytes=seen.used_bytes.max if seen.used_bytes else None,
        utilization_percent=seen.utilization_percent.mean if seen.utilization_percent else None,
        hot_share=seen.hot_share,
        seconds=seen.seconds,
        busy_seconds=seen.busy_seconds,
    )


def _arrivals(conn: Connection, since: float, until: float) -> list[Arrival]:
    """The last jobs that came and were wanted, in the order of their times."""
    columns = (s.jobs.c.created_at, s.jobs.c.model, s.jobs.c.params, s.job_states.c.priority)
    query = (
        select(*columns)
        .join_from(s.jobs, s.job_states)
        .where(s.jobs.c.created_at > since, s.jobs.c.created_at <= until, s.job_states.c.status != JobStatus.CANCELLED)
        .order_by(s.jobs.c.id.desc())  # which is the order of time, or nearly
        .limit(_REPLAYED)
    )
    found = [
        Arrival(at, model, VideoParams.from_dict(params), priority)
        for at, model, params, priority in conn.execute(query)
    ]
    return sorted(found, key=lambda one: one.at)


def _price(gpu: Gpu, prices: Prices) -> Price | None:
    return prices.of(gpu.info.id, gpu.info.name, gpu.info.kind)


def _refused(conn: Connection, since: float, until: float) -> list[Refused]:
    """Jobs that no GPU has the memory for: those that were refused at their submit, then those that failed."""
    columns = s.job_states.c
    jobs = func.count().label("jobs")
    query = (
        select(columns.shape, columns.error_code, jobs)
        .where(columns.finished_at > since, columns.finished_at <= until, columns.error_code.in_(_REFUSED))
        .group_by(columns.shape, columns.error_code)
        .order_by(jobs.desc(), columns.shape)
    )
    at_submit = [
        Refused(row.shape, "unschedulable", int(row.submits), at_submit=True, needed_bytes=row.needed_bytes)
        for row in demand.read(conn, since, until)
    ]
    return at_submit + [Refused(shape, code, count) for shape, code, count in conn.execute(query)]


def _dearest_rent(fleet: Iterable[Gpu], totals: Mapping[str, Totals], prices: Prices, seconds: float) -> float | None:
    """What the rented GPU that costs the most costs in a month, at the pace of the window; None: none is rented."""
    rents = []
    for gpu in fleet:
        price = _price(gpu, prices)
        spent = cost(price, totals[gpu.info.id].seconds)
        if price is not None and price.terms in _RENTED and spent is not None:
            rents.append(spent / seconds * _MONTH_SECONDS)
    return max(rents, default=None)
