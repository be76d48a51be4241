"""Models whose jobs wait: held by an operator, or because run after run ends in numbers that are not finite.

Such a failure is the model's, not the device's: its weights or its precision are at fault on any GPU.
"""

from sqlalchemy import Connection, func, select, update

from scheduler.errors import NotFound
from scheduler.states import Outcome
from scheduler.store import eventlog
from scheduler.store import schema as s

NUMERICAL_ERROR = "numerical_error"
_RUNS = 3  # so many in a row,
_JOBS = 2  # of so many jobs, are no chance and no single job's prompt
_TELLING = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.RETRIED)  # how an attempt ends that says something of the model


def hold(conn: Connection, model_id: str, reason: str, actor: str, now: float) -> None:
    """Let no queued job of a model start; saying it again replaces the reason. Raises `NotFound`."""
    held_at = _lock(conn, model_id)
    changed = update(s.models).where(s.models.c.id == model_id)
    conn.execute(changed.values(held_at=now if held_at is None else held_at, held_reason=reason))
    eventlog.append(conn, "model.held", model_id, now, actor=actor, data={"reason": reason})


def release(conn: Connection, model_id: str, actor: str, now: float) -> None:
    """Let its jobs start again; changes nothing where the model is not held. Raises `NotFound`."""
    if _lock(conn, model_id) is not None:
        conn.execute(update(s.models).where(s.models.c.id == model_id).values(held_at=None, held_reason=None))
        eventlog.append(conn, "model.released", model_id, now, actor=actor)


def is_held(conn: Connection, model_id: str) -> bool:
    """Tell whether a model is held."""
    return conn.execute(select(s.models.c.held_at).where(s.models.c.id == model_id)).scalar() is not None


def keeps_failing(conn: Connection, model_id: str) -> bool:
    """Tell whether the last runs of a model have all failed by their numbers; those before a release do not count."""
    e, a = s.events.c, s.attempts.c
    released = select(func.max(e.at)).where(e.subject == model_id, e.type == "model.released")
    query = (
        select(a.job_id, a.error_code)
        .where(
            a.model == model_id,
            a.outcome.in_(_TELLING),
            a.ended_at > func.coalesce(released.scalar_subquery(), 0.0),
        )
        .order_by(a.ended_at.desc())
        .limit(_RUNS)
    )
    last = conn.execute(query).all()
    failed = all(run.error_code == NUMERICAL_ERROR for run in last)
    return failed and len(last) == _RUNS and len({run.job_id for run in last}) >= _JOBS


def _lock(conn: Connection, model_id: str) -> float | None:
    """When the model was held; its row is locked until the transaction ends."""
    m = s.models.c
    row = conn.execute(select(m.held_at).where(m.id == model_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"no model {model_id[:80]}")
    held_at: float | None = row.held_at
    return held_at
