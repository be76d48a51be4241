"""Writing a new job: the immutable row, its state, and the idempotency key, in the caller's transaction."""

from sqlalchemy import Connection, Row, func, insert, select

from scheduler.footprint import Footprint
from scheduler.records import NewJob
from scheduler.states import JobStatus
from scheduler.store import schema as s


def insert_job(
    conn: Connection,
    new: NewJob,
    footprint: Footprint,
    *,
    weight: float,
    rank: float,
    memory_class: int,
    max_attempts: int,
    now: float,
) -> None:
    """Insert `new` as queued."""
    conn.execute(
        insert(s.jobs).values(
            id=new.id,
            tenant=new.tenant,
            model=new.model,
            prompt=new.prompt,
            params=new.params.to_dict(),
            metadata=dict(new.metadata),
            image_key=new.image_key,
            max_attempts=max_attempts,
            created_at=now,
        )
    )
    conn.execute(
        insert(s.job_states).values(
            job_id=new.id,
            status=JobStatus.QUEUED,
            model=new.model,
            priority=new.priority,
            plan=footprint.plan,
            est_model_bytes=footprint.model_bytes,
            est_working_bytes=footprint.working_bytes,
            est_seconds=footprint.seconds,
            weight=weight,
            rank=rank,
            memory_class=memory_class,
            not_before=0.0,
            lease=0,
            attempts=0,
            version=1,
        )
    )
    if new.idempotency_key is not None:
        conn.execute(
            insert(s.idempotency_keys).values(
                tenant=new.tenant,
                key=new.idempotency_key,
                payload_sha256=new.payload_sha256,
                job_id=new.id,
            )
        )


def known_key(conn: Connection, tenant: str, key: str) -> Row[str, str] | None:
    """Return (payload_sha256, job_id) of a key this tenant has used, or None.

    The key is locked until the transaction ends (SQLite: the whole database is), so that of several calls with a new
    key one inserts it and the others find it.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{tenant}/{key}", 0))))
    keys = s.idempotency_keys
    query = select(keys.c.payload_sha256, keys.c.job_id).where(keys.c.tenant == tenant, keys.c.key == key)
    return conn.execute(query).one_or_none()


def queued_up_to(conn: Connection, limit: int) -> tuple[int, float]:
    """Return how many jobs are queued and the sum of their estimated seconds, counting no further than `limit`."""
    states = s.job_states
    some = select(states.c.est_seconds).where(states.c.status == JobStatus.QUEUED).limit(limit).subquery()
    query = select(func.count(), func.coalesce(func.sum(some.c.est_seconds), 0.0)).select_from(some)
    count, seconds = conn.execute(query).one()
    return int(count), float(seconds)
