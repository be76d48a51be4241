"""Queries that answer a poll."""

from sqlalchemy import Connection, Row, bindparam, func, select

from scheduler.errors import NotFound
from scheduler.records import Attempt, Job, ServedModel
from scheduler.states import JobStatus
from scheduler.store import rows
from scheduler.store import schema as s

# Built once: that takes as long as the database does.
_JOB = rows.select_jobs().where(s.jobs.c.id == bindparam("job_id"))
_MODELS = select(s.models).order_by(s.models.c.seen_at.desc(), s.models.c.id)


def job(conn: Connection, job_id: str) -> Job:
    """Return the job; raises `NotFound`."""
    row = conn.execute(_JOB, {"job_id": job_id}).one_or_none()
    if row is None:
        raise NotFound(f"no job {job_id}")
    return rows.job(row)


def jobs(conn: Connection, status: JobStatus | None, before_id: str | None, limit: int) -> list[Job]:
    """Return up to `limit` jobs, newest first; ids sort by time, so an id is the cursor."""
    id_ = s.jobs.c.id if status is None else s.job_states.c.job_id  # where the index is that has them in order
    query = rows.select_jobs().order_by(id_.desc()).limit(limit)
    if status is not None:
        query = query.where(s.job_states.c.status == status)
    if before_id is not None:
        query = query.where(id_ < before_id)
    return [rows.job(row) for row in conn.execute(query)]


def attempts(conn: Connection, job_id: str) -> list[Attempt]:
    """Return every attempt of a job, oldest first."""
    query = select(s.attempts).where(s.attempts.c.job_id == job_id).order_by(s.attempts.c.lease)
    return [rows.attempt(row) for row in conn.execute(query)]


def versions(conn: Connection, job_ids: list[str]) -> dict[str, tuple[int, int]]:
    """Return the current version of each job that exists; cheap enough to ask for all that are waited for."""
    query = (
        select(s.job_states.c.job_id, s.job_states.c.version, func.coalesce(s.leases.c.reports, 0))
        .select_from(s.job_states.outerjoin(s.leases, s.leases.c.job_id == s.job_states.c.job_id))
        .where(s.job_states.c.job_id.in_(job_ids))
    )
    return {job_id: (version, reports) for job_id, version, reports in conn.execute(query)}


def models(conn: Connection) -> dict[str, ServedModel]:
    """Return the models that workers have registered, by id, newest first."""
    return {row.id: _model(row) for row in conn.execute(_MODELS)}


def _model(row: Row[tuple[object, ...]]) -> ServedModel:
    return ServedModel(row.id, row.architecture, row.weights_bytes, row.fingerprint, row.held_reason)
