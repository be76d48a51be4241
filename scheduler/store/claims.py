"""Finding the job to run: a skip-scan over memory classes, so that its cost does not grow with the backlog.

For one model and plan, the queue's index is ordered by (memory class, rank). The recursive part steps from class to
class, one index seek each, up to the largest that fits; each class then gives its head, one seek more.
`ORDER BY rank … WHERE memory <= free` would walk past every job that does not fit.
"""

from typing import Any

from sqlalchemy import JSON, Connection, Row, text

_HEADS = text(
    """
    WITH RECURSIVE classes(memory_class) AS (
        SELECT min(memory_class) FROM job_states WHERE status = 'queued' AND model = :model AND plan = :plan
        UNION ALL
        SELECT (
            SELECT min(q.memory_class) FROM job_states q
            WHERE q.status = 'queued' AND q.model = :model AND q.plan = :plan AND q.memory_class > classes.memory_class
        )
        FROM classes WHERE classes.memory_class < :largest
    ),
    heads(job_id) AS (
        SELECT (
            SELECT q.job_id FROM job_states q
            WHERE q.status = 'queued' AND q.model = :model AND q.plan = :plan
              AND q.memory_class = classes.memory_class AND q.not_before <= :now
            ORDER BY q.rank DESC, q.job_id LIMIT 1
        )
        FROM classes WHERE classes.memory_class <= :largest
    )
    SELECT s.job_id, s.plan, s.memory_class, s.est_model_bytes, s.est_working_bytes, s.est_seconds,
           j.model, j.prompt, j.params, j.image_key
    FROM heads h JOIN job_states s ON s.job_id = h.job_id JOIN jobs j ON j.id = h.job_id
    ORDER BY s.rank DESC, s.job_id LIMIT 1
    """
).columns(params=JSON)


def best(conn: Connection, model: str, plan: str, largest_class: int, now: float) -> Row[Any] | None:
    """Return the queued job with the highest rank that fits: of `model`, estimated for `plan`, class at most so large.

    A job's memory class holds for its plan only: under another plan it would need more or less.
    """
    values = {"model": model, "plan": plan, "largest": largest_class, "now": now}
    return conn.execute(_HEADS, values).one_or_none()
