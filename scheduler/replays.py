"""Looking for the job that an idempotency key has made, before any work is done for another one."""

from sqlalchemy import select

from scheduler.errors import IdempotencyMismatch
from scheduler.store import reads
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.submitting import Submitted


def replayed(database: Database, tenant: str, key: str, payload_sha256: str) -> Submitted | None:
    """Return the job that `key` made before, or None; raises `IdempotencyMismatch` if that was another payload.

    None decides nothing: of two calls at once with a new key, both see none, and `Queue.submit` tells them apart.
    """
    keys = s.idempotency_keys.c
    with database.read() as conn:
        found = conn.execute(
            select(keys.payload_sha256, keys.job_id).where(keys.tenant == tenant, keys.key == key)
        ).one_or_none()
        if found is None:
            return None
        if found.payload_sha256 != payload_sha256:
            raise IdempotencyMismatch("Idempotency-Key was used before with another payload")
        return Submitted(reads.job(conn, found.job_id), created=False)
