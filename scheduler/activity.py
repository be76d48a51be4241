"""What goes on, at a glance: jobs that wait and run, and those that have ended lately, of all tenants or of one."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Integer, cast, func, literal, select, union_all

from scheduler.states import JobStatus
from scheduler.store import schema as s
from scheduler.store.database import Database


@dataclass(frozen=True, slots=True)
class Ended:
    """The jobs that ended in the seconds from `at` (since 1970) on."""

    at: float
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def jobs(self) -> int:
        """All of them."""
        return self.succeeded + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class Activity:
    """One look, at `at` by the database's clock; `oldest_wait_seconds` is None where no job could start now.

    `ended` are spans of `span_seconds` each, oldest first and without a gap; the last one is not over yet.
    """

    at: float
    queued: int
    running: int
    oldest_wait_seconds: float | None
    last_hour: Ended
    span_seconds: float
    ended: Sequence[Ended]


class Activities:
    """Looks at the queue. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, tenant: str | None = None, *, spans: int = 48, span_seconds: float = 1800.0) -> Activity:
        """Return what goes on for a tenant, or for all; raises `StoreError`. It reads `spans` of ended jobs."""
        with self._database.read() as conn:
            now = self._database.now(conn)
            first = (now // span_seconds - spans + 1) * span_seconds
            found = _ended(conn, tenant, first, span_seconds)
            unfinished = _unfinished(conn, tenant)
            return Activity(
                at=now,
                queued=unfinished.get(JobStatus.QUEUED, 0),
                running=unfinished.get(JobStatus.RUNNING, 0),
                oldest_wait_seconds=_oldest_wait(conn, tenant, now),
                last_hour=_ended(conn, tenant, now - 3600.0, 7200.0).get(0, Ended(now - 3600.0)),
                span_seconds=span_seconds,
                ended=[found.get(number, Ended(first + number * span_seconds)) for number in range(spans)],
            )

    def counts(self, tenant: str | None = None, most: int = 1000) -> dict[JobStatus, int]:
        """Return how many jobs of a tenant, or of all, are in each state, counting to `most` + 1 at the most."""
        j = s.job_states.c
        counted = []
        for status in JobStatus:
            some = select(j.job_id).where(j.status == status, *_of(tenant)).limit(most + 1).subquery()
            counted.append(select(literal(status.value), func.count()).select_from(some))
        with self._database.read() as conn:
            return {JobStatus(status): jobs for status, jobs in conn.execute(union_all(*counted))}


def _ended(conn: Connection, tenant: str | None, since: float, span_seconds: float) -> dict[int, Ended]:
    j = s.job_states.c
    # Rounded down in SQL: a plain cast would round to the nearest on PostgreSQL.
    number = cast(func.floor((j.finished_at - since) / span_seconds), Integer)
    query = (
        select(number, j.status, func.count()).where(j.finished_at >= since, *_of(tenant)).group_by(number, j.status)
    )
    counts: dict[int, dict[str, int]] = {}
    for span, status, jobs in conn.execute(query):
        counts.setdefault(span, {})[status] = jobs
    return {span: Ended(since + span * span_seconds, **by_status) for span, by_status in counts.items()}


def _unfinished(conn: Connection, tenant: str | None) -> dict[str, int]:
    j = s.job_states.c
    query = select(j.status, func.count().label("jobs")).where(
        j.status.in_([JobStatus.QUEUED, JobStatus.RUNNING]), *_of(tenant)
    )
    return {row.status: row.jobs for row in conn.execute(query.group_by(j.status))}


def _oldest_wait(conn: Connection, tenant: str | None, now: float) -> float | None:
    j = s.job_states.c
    query = select(func.min(j.ready_at)).where(s.READY, *_of(tenant))
    since = conn.execute(query).scalar()
    return None if since is None else max(0.0, now - since)


def _of(tenant: str | None) -> list[ColumnElement[bool]]:
    return [] if tenant is None else [s.job_states.c.tenant == tenant]
