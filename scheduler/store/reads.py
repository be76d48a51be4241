"""Queries that answer a poll."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select, union_all

from scheduler.errors import NotFound
from scheduler.ids import first_at
from scheduler.records import Attempt, Job, ServedModel
from scheduler.states import JobStatus
from scheduler.store import rows, script
from scheduler.store import schema as s
from scheduler.store.script import Statement

# Built once: that takes as long as the database does.
_JOB = rows.select_jobs().where(s.jobs.c.id == bindparam("job_id"))
_MODELS = Statement("SELECT * FROM models ORDER BY seen_at DESC, id")
# An id is made before its job is committed, and by another clock: far longer than that, and than clocks differ.
_ID_SLACK_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs a list is of; None and no statuses: any. Times are exclusive, and so is the id.

    `ascending` turns the list round: oldest first, and from the job `before_id` on to later ones. `ids` are the lowest
    and the highest.
    """

    tenant: str | None = None
    statuses: Collection[JobStatus] = ()
    model: str | None = None
    gpu_id: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    before_id: str | None = None
    ascending: bool = False
    ids: tuple[str, str] | None = None


def job(conn: Connection, job_id: str) -> Job:
    """Return the job; raises `NotFound`."""
    row = conn.execute(_JOB, {"job_id": job_id}).one_or_none()
    if row is None:
        raise NotFound(f"no job {job_id}")
    return rows.job(row)


def jobs(conn: Connection, wanted: Wanted, limit: int) -> list[Job]:
    """Return up to `limit` jobs, in order; ids sort by time, so an id is the cursor."""
    return [rows.job(row) for row in conn.execute(page(wanted, limit))]


def prompts(conn: Connection, wanted: Wanted, limit: int) -> list[tuple[str, str]]:
    """Return the ids and prompts of what `jobs` would."""
    query = select(s.jobs.c.id, s.jobs.c.prompt).where(s.jobs.c.id.in_(_chosen(wanted, limit)))
    return [(id_, prompt) for id_, prompt in conn.execute(query.order_by(_order(s.jobs.c.id, wanted)))]


def some_jobs(conn: Connection, job_ids: Sequence[str], wanted: Wanted) -> list[Job]:
    """Return those of these jobs that exist, in the order that is wanted."""
    query = rows.select_jobs().where(s.jobs.c.id.in_(job_ids)).order_by(_order(s.jobs.c.id, wanted))
    return [rows.job(row) for row in conn.execute(query)] if job_ids else []


def page(wanted: Wanted, limit: int) -> Select[Any]:
    """Return the query of `jobs`."""
    return rows.select_jobs().where(s.jobs.c.id.in_(_chosen(wanted, limit))).order_by(_order(s.jobs.c.id, wanted))


def _chosen(wanted: Wanted, limit: int) -> Select[Any]:
    merged = union_all(*(select(ids.subquery().c.id) for ids in newest(wanted, limit))).subquery()
    return select(merged.c.id).order_by(_order(merged.c.id, wanted)).limit(limit)


def newest(wanted: Wanted, limit: int) -> list[Select[Any]]:
    """Return the queries whose answers, merged, are the ids of a page: one for each status.

    Each reads an index that has them in order, and stops after `limit`; of several statuses together none does.
    """
    statuses = frozenset(wanted.statuses)
    every = len(statuses) in (0, len(JobStatus))
    return [_ids(wanted, status).limit(limit) for status in ([None] if every else sorted(statuses))]


def _order(id_: ColumnElement[str], wanted: Wanted) -> ColumnElement[str]:
    return id_.asc() if wanted.ascending else id_.desc()


def _ids(wanted: Wanted, status: JobStatus | None) -> Select[Any]:
    table = s.jobs if status is None else s.job_states
    id_ = s.jobs.c.id if status is None else s.job_states.c.job_id
    query = select(id_.label("id")).order_by(_order(id_, wanted))
    if status is not None:
        query = query.where(s.job_states.c.status == status)
    if wanted.tenant is not None:
        query = query.where(table.c.tenant == wanted.tenant)
    if wanted.model is not None:
        query = query.where(table.c.model == wanted.model)
    if wanted.before_id is not None:
        query = query.where(id_ > wanted.before_id if wanted.ascending else id_ < wanted.before_id)
    if wanted.ids is not None:
        query = query.where(id_.between(*wanted.ids))
    if wanted.gpu_id is not None:
        had = select(s.attempts.c.job_id).where(s.attempts.c.job_id == id_, s.attempts.c.gpu_id == wanted.gpu_id)
        query = query.where(had.exists())
    after, before = wanted.created_after, wanted.created_before
    if status is not None and (after is not None or before is not None):
        query = query.join(s.jobs, s.jobs.c.id == id_)
    if after is not None:
        query = query.where(s.jobs.c.created_at > after, id_ >= first_at("job", after - _ID_SLACK_SECONDS))
    if before is not None:
        query = query.where(s.jobs.c.created_at < before, id_ < first_at("job", before + _ID_SLACK_SECONDS))
    return query


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
    return {row.id: _model(row) for row in script.select(conn, _MODELS, {})}


def _model(row: Any) -> ServedModel:
    return ServedModel(row.id, row.architecture, row.weights_bytes, row.fingerprint, row.held_reason)
