"""Where jobs stand in the line of their model and plan, and how much work is ahead of them.

The first thousand places are counted in the database at each look. Further back the place is estimated, by a ladder of
the line: every 250th job with how many are before it, read once in a while for all who ask.

A job that is not to run yet has its place behind all that are, by the time until which it waits. Once that has come it
goes by its rank, also before a claim has noticed; so the work ahead of it is that of the jobs ranked above it: of those
in the line now, and of those that join it at the same time, as all do that wait for a window.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Self

from sqlalchemy import Connection

from scheduler.footprint import Footprint
from scheduler.outlook import Work
from scheduler.params import VideoParams
from scheduler.records import Job
from scheduler.remembered import Remembered
from scheduler.states import Window
from scheduler.store import lines
from scheduler.store.lines import Ahead, Deferred, Ready, Rung

EXACT_PLACES = lines.MOST
RUNG_STEP = 250
_LADDER_SECONDS = 2.0  # the least time for which a ladder is used
_ASKED = 12  # jobs for which to count takes no longer than to read the line

# What is before a place in the line, and of the jobs there, if they are few, the seconds in order.
Before = tuple[Ahead, Sequence[float]]
View = Callable[[float, str], Before]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What of a queued job decides how long it waits; one that has not been submitted can be asked about as well."""

    id: str
    gate: str
    model: str
    params: VideoParams
    footprint: Footprint
    memory_class: int
    rank: float
    not_before: float = 0.0
    attempts: int = 0
    max_attempts: int = 1
    window: Window | None = None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return that of a queued job."""
        return cls(
            job.id, job.gate, job.model, job.params, job.footprint, job.memory_class, job.rank, job.not_before,
            job.attempts, job.max_attempts, job.window,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """How many jobs are `ahead` of a queued one, whether that has been counted or estimated, and the work they are.

    Of a job that is put off the `work` is that of the jobs in the line; `joining` are those that join it together with
    the job, and rank above it.
    """

    ahead: int
    exact: bool
    work: Work
    joining: Work = field(default_factory=Work)


class Ladder:
    """A line in steps of `RUNG_STEP` jobs, to find a place in it by bisection."""

    def __init__(self, rungs: Sequence[Rung]) -> None:
        self._keys = [_key(rung.rank, rung.job_id) for rung in rungs]
        self._rungs = rungs

    def ahead(self, rank: float, job_id: str) -> tuple[int, float]:
        """Return about how many jobs are ahead, and their predicted seconds; half a step more than the rung before."""
        passed = bisect_right(self._keys, _key(rank, job_id))
        if passed == 0:
            return 0, 0.0
        rung = self._rungs[passed - 1]
        jobs = rung.jobs + RUNG_STEP // 2
        return jobs, rung.seconds * jobs / rung.jobs


class Lines:
    """The lines of all models and plans. Thread-safe.

    Jobs of several plans that the same GPUs run stand in one line.
    """

    def __init__(self) -> None:
        self._ladders: Remembered[tuple[str, str], Ladder] = Remembered(_LADDER_SECONDS)

    def standings(
        self,
        conn: Connection,
        model: str,
        plans: Collection[str],
        jobs: Sequence[Waiting],
        now: float,
        deferred: Sequence[Deferred] = (),
    ) -> list[Standing]:
        """Return where each of these queued jobs of one model stands, among those of these plans, from one look.

        `deferred` are the jobs, of all models, that are to join their lines, up to the last one asked about.
        """
        all_known = len(deferred) < lines.MOST
        ours = [one for one in deferred if one.model == model and one.plan in plans]
        due = [one.ready for one in ours if one.not_before <= now]
        later = [one for one in ours if one.not_before > now]
        sooner = [(one.not_before, *_key(one.ready.rank, one.ready.job_id)) for one in later]
        view = (_asked if len(jobs) <= _ASKED else _read)(conn, model, plans, due)

        def standing(rank: float, job_id: str) -> Standing:
            (ahead, seconds, longest), first = view(rank, job_id)
            exact = ahead < EXACT_PLACES
            if not exact:
                estimated = [self._ladder(conn, model, plan).ahead(rank, job_id) for plan in plans]
                ahead = max(ahead, sum(jobs for jobs, _ in estimated))
                seconds = max(seconds, sum(part for _, part in estimated))
            return Standing(ahead, exact and all_known, Work(first, max(0.0, seconds - sum(first)), longest))

        def behind_the_line(job: Waiting) -> Standing:
            ready = standing(lines.LAST_RANK, job.id)
            end = bisect_left(sooner, (job.not_before, *_key(job.rank, job.id)))
            begin = bisect_left(sooner, (job.not_before,))
            joining = _work([one.ready.est_seconds for one in later[begin:end]])
            return Standing(ready.ahead + end, ready.exact, standing(job.rank, job.id).work, joining)

        return [behind_the_line(job) if job.not_before > now else standing(job.rank, job.id) for job in jobs]

    def _ladder(self, conn: Connection, model: str, plan: str) -> Ladder:
        return self._ladders.get((model, plan), lambda: Ladder(lines.rungs(conn, model, plan, RUNG_STEP)))


def _asked(conn: Connection, model: str, plans: Collection[str], due: Sequence[Ready]) -> View:
    """The line as the database counts it, and the jobs that are due."""
    joining = _count(due)
    front = cache(lambda: _count([*_first(conn, model, plans, lines.FEW), *due]))

    def before(rank: float, job_id: str) -> Before:
        parts = [lines.ahead(conn, model, plan, rank, job_id) for plan in plans]
        parts.append(joining(rank, job_id)[0])
        jobs, seconds, longest = zip(*parts, strict=True)
        total = Ahead(sum(jobs), sum(seconds), max(longest))
        if not 0 < total.jobs <= lines.FEW:
            return total, []
        return total, front()(rank, job_id)[1]

    return before


def _read(conn: Connection, model: str, plans: Collection[str], due: Sequence[Ready]) -> View:
    """The line read once, and the jobs that are due: for many jobs cheaper than to count for each."""
    return _count([*_first(conn, model, plans, lines.MOST), *due])


def _first(conn: Connection, model: str, plans: Collection[str], most: int) -> list[Ready]:
    return [ready for plan in plans for ready in lines.first(conn, model, plan, most)]


def _count(jobs: Sequence[Ready]) -> View:
    line = sorted(jobs, key=lambda job: _key(job.rank, job.job_id))
    keys = [_key(job.rank, job.job_id) for job in line]
    seconds = [job.est_seconds for job in line]
    sums = [0.0, *accumulate(seconds)]
    longest = [0.0, *accumulate(seconds, max)]

    def before(rank: float, job_id: str) -> Before:
        jobs = bisect_left(keys, _key(rank, job_id))
        return Ahead(jobs, sums[jobs], longest[jobs]), seconds[:jobs] if jobs <= lines.FEW else []

    return before


def _work(seconds: Sequence[float]) -> Work:
    return Work(seconds[: lines.FEW], sum(seconds[lines.FEW :]), max(seconds, default=0.0))


def _key(rank: float, job_id: str) -> tuple[float, str]:
    """What sorts as the line does."""
    return -rank, job_id
