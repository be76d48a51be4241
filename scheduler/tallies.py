"""What attempts and jobs add up to, for metrics: counted by the database, so that all who ask are told the same."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, case, func, select

from scheduler.states import JobStatus, Outcome
from scheduler.store import alerts, waits
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.store.waits import Recent

_DAY = 86_400.0
_RECENT_SECONDS = 3600.0


@dataclass(slots=True)
class Comparison:
    """What was predicted beside what was measured: both summed, over the attempts of which both are known."""

    count: int = 0
    predicted: float = 0.0
    measured: float = 0.0

    def add(self, count: int, predicted: float | None, measured: float | None) -> None:
        """Add the sums of `count` more."""
        self.count += count
        self.predicted += float(predicted or 0)
        self.measured += float(measured or 0)


@dataclass(frozen=True, slots=True)
class Run:
    """What attempts are counted by."""

    model: str
    plan: str
    gpu_kind: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Attempts that have ended alike: how many, and the seconds that they held a GPU (or shared it), summed."""

    attempts: int
    gpu_seconds: float


@dataclass(slots=True)
class RunTally:
    """The attempts of one kind that have ended in the period.

    `seconds` compares those that succeeded and began at their first step, `vram_bytes` all that succeeded.
    """

    outcomes: dict[Outcome, Ended] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)  # by the error's code
    energy_joules: float = 0.0
    seconds: Comparison = field(default_factory=Comparison)
    vram_bytes: Comparison = field(default_factory=Comparison)


@dataclass(frozen=True, slots=True)
class Tally:
    """One look. `at` is seconds since 1970 by the database's clock; `jobs` are those kept, by status."""

    at: float
    jobs: Mapping[JobStatus, int]
    runs: Mapping[Run, RunTally]
    recent: Mapping[str, Recent]  # by model
    worn: Mapping[str, int]  # workers that gave way to new ones in the last hour, by GPU


class Tallies:
    """Adds up attempts since the start of a period, and jobs. Thread-safe.

    A period is a day (UTC), or the retention where that is shorter: so nothing that is counted has been deleted yet,
    and within a period no sum ever falls. At its end all begin at 0 again; the kinds of the one before are still there.
    """

    def __init__(self, database: Database, retention_seconds: float) -> None:
        self._database = database
        self._period_seconds = min(_DAY, retention_seconds)

    def take(self) -> Tally:
        """Count; raises `StoreError`. It reads the attempts of two periods and the jobs of an hour by an index."""
        with self._database.read() as conn:
            now = self._database.now(conn)
            jobs = {row.status: row.jobs for row in conn.execute(_JOBS)}
            return Tally(
                at=now,
                jobs={status: jobs.get(status, 0) for status in JobStatus},
                runs=self._runs(conn, now),
                recent=waits.recent(conn, now - _RECENT_SECONDS),
                worn=Counter(
                    row.subject for row in alerts.worn(conn, list(conn.scalars(_GPUS)), now - _RECENT_SECONDS)
                ),
            )

    def _runs(self, conn: Connection, now: float) -> dict[Run, RunTally]:
        begin = now - now % self._period_seconds
        found: dict[Run, RunTally] = {}
        a = s.attempts.c
        this_period = a.ended_at >= begin
        whole = a.run_seconds.is_not(None) & a.resumed_from_step.is_(None)
        measured = a.vram_peak_bytes.is_not(None)
        keys = (a.model, a.plan, a.gpu_kind, a.outcome, a.error_code)
        query = (
            select(
                *keys,
                this_period.label("this_period"),
                func.count().label("attempts"),
                func.sum(a.ended_at - a.started_at).label("gpu_seconds"),
                func.sum(a.energy_joules).label("energy_joules"),
                func.count(case((whole, 1))).label("timed"),
                func.sum(case((whole, a.predicted_seconds))).label("predicted_seconds"),
                func.sum(case((whole, a.run_seconds))).label("run_seconds"),
                func.count(a.vram_peak_bytes).label("weighed"),
                func.sum(case((measured, a.predicted_vram_bytes))).label("predicted_vram_bytes"),
                func.sum(a.vram_peak_bytes).label("vram_peak_bytes"),
            )
            .where(a.ended_at >= begin - self._period_seconds)
            .group_by(*keys, "this_period")
        )
        for row in conn.execute(query):
            tally = found.setdefault(Run(row.model, row.plan, row.gpu_kind), RunTally())
            counted = int(row.this_period)
            outcome = Outcome(row.outcome)
            before = tally.outcomes.get(outcome, Ended(0, 0.0))
            tally.outcomes[outcome] = Ended(
                before.attempts + counted * row.attempts, before.gpu_seconds + counted * row.gpu_seconds
            )
            if row.error_code is not None:
                tally.errors[row.error_code] = tally.errors.get(row.error_code, 0) + counted * row.attempts
            if counted:
                tally.energy_joules += row.energy_joules or 0.0
            if counted and outcome is Outcome.SUCCEEDED:
                tally.seconds.add(row.timed, row.predicted_seconds, row.run_seconds)
                tally.vram_bytes.add(row.weighed, row.predicted_vram_bytes, row.vram_peak_bytes)
        return found


_GPUS = select(s.gpus.c.id)
_JOBS = select(s.job_states.c.status, func.count().label("jobs")).group_by(s.job_states.c.status)
