"""How long the jobs that have ended lately have waited."""

from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select

from scheduler.store import schema as s


@dataclass(frozen=True, slots=True)
class Recent:
    """The jobs of a model that have run and ended since some time: seconds from when each could first run, summed.

    `wait_seconds` are those until its first start, `turnaround_seconds` those until its end.
    """

    jobs: int
    wait_seconds: float
    turnaround_seconds: float


def recent(conn: Connection, since: float) -> dict[str, Recent]:
    """Return by model the jobs that have ended since then."""
    j = s.job_states.c
    # A job that went back to the queue was ready anew after its first start: there the submit has to do.
    ready_at = case((j.ready_at <= j.started_at, j.ready_at), else_=s.jobs.c.created_at)
    query = (
        select(j.model, func.count(), func.sum(j.started_at - ready_at), func.sum(j.finished_at - ready_at))
        .join(s.jobs, s.jobs.c.id == j.job_id)
        .where(j.finished_at >= since, j.started_at.is_not(None))
        .group_by(j.model)
    )
    return {model: Recent(jobs, float(wait), float(total)) for model, jobs, wait, total in conn.execute(query)}
