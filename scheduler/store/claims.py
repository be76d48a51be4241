"""The statements of a claim: look at the GPU, find the job to run, take it.

Finding is a skip-scan over memory classes, so that its cost does not grow with the backlog. For one model and plan the
claim index is ordered by (memory class, rank): the recursive part steps from class to class, one index seek each, and
each class then gives its head, one seek more. `ORDER BY rank … WHERE memory <= free` would walk past every job that
does not fit. Jobs that are not to run yet are not in that index at all.
"""

from scheduler.store.script import Chain, Statement

LOOK = (
    # In a statement of its own: the next one must see what the holder of the lock has committed.
    Statement("SELECT id FROM gpus WHERE id = :gpu_id FOR UPDATE", postgres_only=True),
    Statement(
        """
        SELECT g.state, g.plan, g.total_bytes, g.headroom_bytes, w.model, w.ready, w.condemned, w.can_load,
               coalesce(w.resident_bytes, 0) AS own_bytes,
               CAST((SELECT coalesce(sum(resident_bytes), 0) FROM workers WHERE gpu_id = g.id) AS bigint)
                   AS resident_bytes,
               CAST((SELECT coalesce(sum(reserved_bytes), 0) FROM leases WHERE gpu_id = g.id) AS bigint)
                   AS leased_bytes,
               r.job_id AS reserved_job_id,
               (SELECT paused_at FROM queue_state) AS paused_at,
               (SELECT min(not_before) FROM job_states WHERE status = 'queued' AND not_before > 0) AS due_at,
               {now} AS now
        FROM gpus g
        LEFT JOIN workers w ON w.id = :worker_id AND w.gpu_id = g.id
        LEFT JOIN reservations r ON r.gpu_id = g.id
        WHERE g.id = :gpu_id
        """
    ),
)

PROMOTE = Statement(
    """
    UPDATE job_states SET not_before = 0 WHERE job_id IN (
        SELECT job_id FROM job_states WHERE status = 'queued' AND not_before > 0 AND not_before <= :now
        ORDER BY not_before LIMIT 100 {skip_locked}
    )
    """
)

_CLASSES = """
    WITH RECURSIVE classes(memory_class) AS (
        SELECT min(memory_class) FROM job_states
        WHERE status = 'queued' AND not_before = 0 AND model = :model AND plan = :plan AND memory_class > :above
        UNION ALL
        SELECT (
            SELECT min(q.memory_class) FROM job_states q
            WHERE q.status = 'queued' AND q.not_before = 0 AND q.model = :model AND q.plan = :plan
              AND q.memory_class > classes.memory_class
        )
        FROM classes WHERE classes.memory_class < :largest
    )
"""
# Ordered as only the claim index is, from the class on: with `=` a planner that knows no better would take another one.
_FROM_CLASS_ON = """
    FROM job_states q
    WHERE q.status = 'queued' AND q.not_before = 0 AND q.model = :model AND q.plan = :plan
      AND q.memory_class >= classes.memory_class
"""
_IN_ORDER = "ORDER BY q.memory_class, q.rank DESC, q.job_id"
_FIRST = f"SELECT q.job_id {_FROM_CLASS_ON} {_IN_ORDER} LIMIT 1 OFFSET :depth"
_FIRST_UNRESERVED = f"""
    SELECT q.job_id {_FROM_CLASS_ON} AND NOT EXISTS (SELECT 1 FROM reservations r WHERE r.job_id = q.job_id)
    {_IN_ORDER} LIMIT 1
"""  # noqa: S608  all of it is text from here
_FIRST_THAT_ENDS = f"""
    SELECT d.job_id FROM (
        SELECT q.job_id, q.rank, q.est_seconds, q.memory_class {_FROM_CLASS_ON} {_IN_ORDER} LIMIT :deep OFFSET :depth
    ) d
    WHERE d.memory_class = classes.memory_class AND (d.est_seconds <= :within_seconds OR d.memory_class <= :spare)
    ORDER BY d.rank DESC, d.job_id LIMIT 1
"""  # noqa: S608  all of it is text from here
_COLUMNS = """
    SELECT s.job_id, s.model, s.plan, s.memory_class, s.rank, s.ready_at, s.lease, s.attempts, s.est_seconds,
           (SELECT r.gpu_id FROM reservations r WHERE r.job_id = s.job_id) AS reserved_gpu_id
    FROM job_states s
"""
# What the index has said of the job, once more of its row, which may have changed meanwhile; and so that no index fits.
_STILL_READY = "s.status || '' = 'queued' AND s.not_before + 0 = 0"
_LOCKED = " {skip_locked}"


def _scan(head: str) -> str:
    heads = f"SELECT ({head}) FROM classes WHERE classes.memory_class <= :largest"  # noqa: S608  text from above
    return (
        f"{_CLASSES} {_COLUMNS} WHERE s.job_id {{among}} ({heads}){{end_among}} AND {_STILL_READY}"
        " AND s.memory_class <= :largest ORDER BY s.rank DESC, s.job_id LIMIT 1"
    )


# The head with the highest rank of the classes in (above, largest]; `depth` is 0, or more when those before it are
# being claimed by others. What another claim is about to take is passed over, never waited for.
BEST = (Statement(_scan(_FIRST) + _LOCKED),)
BEST_IN_TIME = (Statement(_scan(_FIRST_THAT_ENDS) + _LOCKED),)
# The same without taking anything: whether there is a job at that depth at all.
ANY = (Statement(_scan(_FIRST), postgres_only=True),)
BLOCKED = (Statement(_scan(_FIRST_UNRESERVED)),)
ONE = (Statement(f"{_COLUMNS} WHERE s.job_id = :job_id AND {_STILL_READY} {_LOCKED}"),)

RUNNING = (
    Statement("SELECT reserved_bytes, predicted_seconds, fraction, progress_at FROM leases WHERE gpu_id = :gpu_id"),
)
# Claims on different GPUs meet at these rows. One at a time makes a reservation, the others do without this time; and
# what another is just deleting is left to it. So none waits for another, and no two for each other.
RESERVE = Statement(
    """
    INSERT INTO reservations (gpu_id, job_id, reserved_bytes, start_at, made_at)
    SELECT :gpu_id, :job_id, :reserved_bytes, :start_at, :now WHERE {reserving_alone}
    ON CONFLICT DO NOTHING
    """
)
UNRESERVE = Statement(
    """
    DELETE FROM reservations
    WHERE gpu_id IN (SELECT gpu_id FROM reservations WHERE job_id = :job_id {skip_locked})
    """
)

TAKE = Chain(
    """
    UPDATE job_states
    SET status = 'running', lease = lease + 1, attempts = attempts + 1, version = version + 1,
        started_at = coalesce(started_at, :now)
    WHERE job_id = :job_id AND status = 'queued' AND lease = :fence - 1
    """,
    """
    INSERT INTO leases (job_id, lease, gpu_id, worker_id, reserved_bytes, started_at, predicted_seconds, expires_at,
                        progress_at, stage, step, steps, fraction, reports)
    SELECT m.job_id, m.lease, :gpu_id, :worker_id, :reserved_bytes, :now, m.est_seconds, :expires_at,
           :now, 'loading', 0, m.steps, 0.0, 0
    FROM {moved} m
    """,
    """
    INSERT INTO attempts (job_id, lease, number, gpu_id, worker_id, model, plan, predicted_vram_bytes,
                          predicted_seconds, started_at)
    SELECT m.job_id, m.lease, m.attempts, :gpu_id, :worker_id, m.model, m.plan, m.est_model_bytes + m.est_working_bytes,
           m.est_seconds, :now
    FROM {moved} m
    """,
    """
    INSERT INTO events (position, at, type, subject, tenant, data)
    SELECT {position}, :now, 'job.running', m.job_id, j.tenant, :event{json}
    FROM {moved} m JOIN jobs j ON j.id = m.job_id
    """,
    table="job_states",
    still="job_id = :job_id AND status = 'running' AND lease = :fence",
    answer="SELECT j.prompt, j.params, j.image_key FROM {moved} m JOIN jobs j ON j.id = m.job_id",
)
