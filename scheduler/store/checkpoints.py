"""Statements about checkpoints: the stored state that a job's next attempt goes on from.

The row outlives leases, and goes with the job's end. Whoever writes it has the lease's row first, or has deleted it: so
two who write never wait for each other.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, select, text

from scheduler.records import Checkpoint
from scheduler.store import schema as s

COLUMNS = "job_id, lease, key, step, fingerprint, plan, bytes, saved_at"
# A later lease's is kept, and of one lease that of the later step.
UNLESS_NEWER = """
    ON CONFLICT (job_id) DO UPDATE
    SET lease = excluded.lease, key = excluded.key, step = excluded.step, fingerprint = excluded.fingerprint,
        plan = excluded.plan, bytes = excluded.bytes, saved_at = excluded.saved_at
    WHERE excluded.lease > checkpoints.lease
       OR (excluded.lease = checkpoints.lease AND excluded.step >= checkpoints.step)
"""
_KEEP = text(
    f"INSERT INTO checkpoints ({COLUMNS})"  # noqa: S608  our own words
    f" VALUES (:job_id, :fence, :key, :saved_step, :fingerprint, :plan, :bytes, :now) {UNLESS_NEWER}"
)


def named(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the parameters of a statement that writes a checkpoint; its step is `saved_step`, for a lease has one."""
    values = asdict(checkpoint)
    return {**values, "saved_step": values.pop("step")}


def keep(conn: Connection, job_id: str, fence: int, checkpoint: Checkpoint, now: float) -> None:
    """Name what the job is to go on from, unless this lease has named a later step already."""
    conn.execute(_KEEP, {**named(checkpoint), "job_id": job_id, "fence": fence, "now": now})


def of(conn: Connection, job_id: str) -> Checkpoint | None:
    """Return what a job would go on from."""
    c = s.checkpoints.c
    query = select(c.key, c.step, c.fingerprint, c.plan, c.bytes).where(c.job_id == job_id)
    row = conn.execute(query).one_or_none()
    return None if row is None else Checkpoint(*row)


def drop(conn: Connection, job_id: str) -> bool:
    """Forget a job's checkpoint; False when there is none."""
    return conn.execute(delete(s.checkpoints).where(s.checkpoints.c.job_id == job_id)).rowcount == 1


def saved_at(conn: Connection, gpu_ids: Sequence[str]) -> dict[str, float]:
    """Return when the leases on these GPUs have last saved their job, by its id; those that have not are left out."""
    c, own = s.checkpoints.c, s.leases.c
    query = (
        select(c.job_id, c.saved_at)
        .join(s.leases, (own.job_id == c.job_id) & (own.lease == c.lease))
        .where(own.gpu_id.in_(gpu_ids))
    )
    return {row.job_id: row.saved_at for row in conn.execute(query)}
