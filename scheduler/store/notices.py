"""What a job tells its caller beside its state: a short list in its row, the latest last."""

from sqlalchemy import Connection, select, update

from scheduler.store import schema as s

KEPT = 20  # the latest ones of a job
_MAX_CHARS = 500


def append(conn: Connection, job_id: str, code: str, message: str, now: float) -> None:
    """Add a notice to a job whose row is locked."""
    states = s.job_states
    told = conn.execute(select(states.c.notices).where(states.c.job_id == job_id)).scalar_one()
    notices = [*told, {"at": now, "code": code, "message": message[:_MAX_CHARS]}]
    changed = update(states).where(states.c.job_id == job_id)
    conn.execute(changed.values(notices=notices[-KEPT:], version=states.c.version + 1))
