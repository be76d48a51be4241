"""The statements of a claim: look at the GPU, find the job to run, take it.

Finding is a skip-scan over gates and memory classes, so that its cost does not grow with the backlog. For one line (a
model and a plan) the claim index is ordered by (gate, memory class, rank): the recursive parts step from gate to gate
(see `gates`; a closed one leads no further) and there from class to class, one index seek each, and each class then
gives its head, one seek more. `ORDER BY rank … WHERE memory <= free` would walk past every job that does not fit. A
line in which nothing waits costs one seek, so all that a worker could run are scanned at once. Jobs that are not to run
yet are not in that index at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from scheduler.store import gates
from scheduler.store.script import Chain, Statement


@dataclass(frozen=True, slots=True)
class Line:
    """What of the jobs of one model and plan to look at: those of the classes in (above, largest].

    Beside a reserved start, jobs of the classes up to `spare` may run on for longer.
    """

    model: str
    plan: str
    above: int
    largest: int
    spare: int = 0


def parameters(lines: Sequence[Line], tenant_max_running: int | None, *, window_open: bool) -> dict[str, Any]:
    """Return the parameters that stand for these lines in a scan of so many.

    See `gates.is_open` for `tenant_max_running`; unless `window_open` is true, no job of the window is found.
    """
    of_lines = {f"{name}_{at}": getattr(line, name) for at, line in enumerate(lines) for name in _LINE}
    return of_lines | {"tenant_max_running": tenant_max_running, "window_open": window_open}


_LINE = {"model": "text", "plan": "text", "above": "integer", "largest": "integer", "spare": "integer"}

# No `min`: where its statistics are old, PostgreSQL would rather read all that it is the least of.
LOOK = (
    # In a statement of its own: the next one must see what the holder of the lock has committed.
    Statement("SELECT id FROM gpus WHERE id = :gpu_id FOR UPDATE", postgres_only=True),
    # Before the workers: one that grows says so before its lease ends.
    Statement(
        """
        SELECT worker_id, lane, reserved_bytes, predicted_seconds, fraction, progress_at, step FROM leases
        WHERE gpu_id = :gpu_id
        """
    ),
    Statement("SELECT id, architecture, weights_bytes, fingerprint, held_reason FROM models"),
    Statement(
        """
        SELECT g.state, g.kind, g.plans, g.total_bytes, g.headroom_bytes, w.pid, w.model, w.ready, w.condemned,
               w.can_load, w.resident_bytes AS own_bytes, w.plan AS own_plan,
               CAST((SELECT coalesce(sum(resident_bytes), 0) FROM workers WHERE gpu_id = g.id) AS bigint)
                   AS resident_bytes,
               r.job_id AS reserved_job_id,
               (SELECT paused_at FROM queue_state) AS paused_at,
               (SELECT not_before FROM job_states WHERE status = 'queued' AND not_before > 0
                ORDER BY not_before LIMIT 1) AS due_at,
               (SELECT not_before FROM job_states WHERE status = 'queued' AND start_window IS NOT NULL
                ORDER BY not_before LIMIT 1) AS window_at,
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
        ORDER BY not_before, rank DESC LIMIT 100 {skip_locked}
    )
    """
)

# In order, lest two that do it wait for each other. A job that has started before is known by its first wait.
PUT_OFF = Statement(
    """
    UPDATE job_states
    SET not_before = :opens_at, ready_at = CASE WHEN started_at IS NULL THEN :opens_at ELSE ready_at END
    WHERE job_id IN (
        SELECT job_id FROM job_states WHERE status = 'queued' AND start_window IS NOT NULL AND not_before <= :now
        ORDER BY job_id {for_update}
    )
    """
)

# Ordered as only the claim index is: for a `min` a planner that knows no better would take another one.
_IN_ORDER = "ORDER BY q.memory_class, q.rank DESC, q.job_id"
_CLASSES = f"""
    WITH RECURSIVE lines(model, plan, above, largest, spare) AS (VALUES {{lines}}),
    gates(model, plan, above, largest, spare, gate) AS (
        SELECT l.model, l.plan, l.above, l.largest, l.spare, (
            SELECT q.gate FROM job_states q
            WHERE q.status = 'queued' AND q.not_before = 0 AND q.model = l.model AND q.plan = l.plan
            {gates.IN_ORDER} LIMIT 1
        )
        FROM lines l
        UNION ALL
        SELECT g.model, g.plan, g.above, g.largest, g.spare, (
            SELECT q.gate FROM job_states q
            WHERE q.status = 'queued' AND q.not_before = 0 AND q.model = g.model AND q.plan = g.plan
              AND q.gate > g.gate
            {gates.IN_ORDER} LIMIT 1
        )
        FROM gates g WHERE g.gate IS NOT NULL
    ),
    classes(model, plan, gate, largest, spare, memory_class) AS (
        SELECT g.model, g.plan, g.gate, g.largest, g.spare, (
            SELECT q.memory_class FROM job_states q
            WHERE q.status = 'queued' AND q.not_before = 0 AND q.model = g.model AND q.plan = g.plan
              AND q.gate = g.gate AND q.memory_class > g.above
            {_IN_ORDER} LIMIT 1
        )
        FROM gates g WHERE g.gate IS NOT NULL AND {gates.is_open("g.gate")}
        UNION ALL
        SELECT c.model, c.plan, c.gate, c.largest, c.spare, (
            SELECT q.memory_class FROM job_states q
            WHERE q.status = 'queued' AND q.not_before = 0 AND q.model = c.model AND q.plan = c.plan
              AND q.gate = c.gate AND q.memory_class > c.memory_class
            {_IN_ORDER} LIMIT 1
        )
        FROM classes c WHERE c.memory_class < c.largest
    )
"""  # noqa: S608  all of it is text from here
# From the class on, and in that order too: with `=` it would take another index as well.
_FROM_CLASS_ON = """
    FROM job_states q
    WHERE q.status = 'queued' AND q.not_before = 0 AND q.model = classes.model AND q.plan = classes.plan
      AND q.gate = classes.gate AND q.memory_class >= classes.memory_class
"""
_FIRST = f"SELECT q.job_id {_FROM_CLASS_ON} {_IN_ORDER} LIMIT 1 OFFSET :depth"
_FIRST_UNRESERVED = f"""
    SELECT q.job_id {_FROM_CLASS_ON} AND NOT EXISTS (SELECT 1 FROM reservations r WHERE r.job_id = q.job_id)
    {_IN_ORDER} LIMIT 1
"""  # noqa: S608  all of it is text from here
_FIRST_THAT_ENDS = f"""
    SELECT d.job_id FROM (
        SELECT q.job_id, q.rank, q.est_seconds, q.memory_class {_FROM_CLASS_ON} {_IN_ORDER} LIMIT :deep OFFSET :depth
    ) d
    WHERE d.memory_class = classes.memory_class
      AND (d.est_seconds <= :within_seconds OR d.memory_class <= classes.spare)
    ORDER BY d.rank DESC, d.job_id LIMIT 1
"""  # noqa: S608  all of it is text from here
_COLUMNS = """
    SELECT s.job_id, s.model, s.plan, s.gate, s.shape, s.memory_class, s.rank, s.ready_at, s.lease, s.attempts,
           s.est_seconds,
           (SELECT r.gpu_id FROM reservations r WHERE r.job_id = s.job_id) AS reserved_gpu_id
    FROM job_states s
"""
# What the index has said of the job, once more of its row, which may have changed meanwhile; and so that no index fits.
_STILL_READY = "s.status || '' = 'queued' AND s.not_before + 0 = 0"
_IN_WINDOW = "(s.start_window IS NULL OR CAST(:window_open AS boolean))"
_LOCKED = " {skip_locked}"


def _scan(head: str, lines: int) -> str:
    values = (", ".join(f"CAST(:{name}_{at} AS {type_})" for name, type_ in _LINE.items()) for at in range(lines))
    classes = _CLASSES.replace("{lines}", ", ".join(f"({one})" for one in values))
    heads = f"SELECT ({head}) FROM classes WHERE classes.memory_class <= classes.largest"  # noqa: S608  text from above
    largest = "(SELECT l.largest FROM lines l WHERE l.model = s.model AND l.plan = s.plan)"
    return (
        f"{classes} {_COLUMNS} WHERE s.job_id {{among}} ({heads}){{end_among}} AND {_STILL_READY}"
        f" AND {_IN_WINDOW} AND s.memory_class <= {largest} ORDER BY s.rank DESC, s.job_id LIMIT 1"
    )


@cache
def best(lines: int) -> tuple[Statement]:
    """The head with the highest rank of the classes of so many lines, behind gates that are open.

    `depth` is 0, or more when those before it are being claimed by others. What another claim is about to take is
    passed over, never waited for.
    """
    return (Statement(_scan(_FIRST, lines) + _LOCKED),)


@cache
def best_in_time(lines: int) -> tuple[Statement]:
    """Do what `best` does with jobs that end `within_seconds`, of the first `deep` of each class, or may run on."""
    return (Statement(_scan(_FIRST_THAT_ENDS, lines) + _LOCKED),)


@cache
def exists(lines: int) -> tuple[Statement]:
    """The same as `best` without taking anything: whether there is a job at that depth at all."""
    return (Statement(_scan(_FIRST, lines), postgres_only=True),)


@cache
def blocked(lines: int) -> tuple[Statement]:
    """The head with the highest rank that no GPU is reserved for."""
    return (Statement(_scan(_FIRST_UNRESERVED, lines)),)


ONE = (
    Statement(
        f"{_COLUMNS} WHERE s.job_id = :job_id AND {_STILL_READY} AND {_IN_WINDOW} AND {gates.is_open('s.gate')}"
        f" {_LOCKED}"
    ),
)

# Of claims that would start jobs of limited tenants one goes on at a time: two could each see the same last place. It
# is one lock for all gates, so that a claim which then finds its gate closed can try another and never wait in a ring.
PASS_GATES_ALONE = Statement("SELECT pg_advisory_xact_lock(491327417447)", postgres_only=True)  # "reelg"

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
    INSERT INTO leases (job_id, lease, gpu_id, worker_id, lane, reserved_bytes, started_at, predicted_seconds,
                        expires_at, progress_at, stage, step, steps, fraction, reports)
    SELECT m.job_id, m.lease, :gpu_id, :worker_id, :lane, :reserved_bytes, :now, m.est_seconds,
           :expires_at, :now, 'loading', 0, m.steps, 0.0, 0
    FROM {moved} m
    """,
    """
    INSERT INTO attempts (job_id, lease, tenant, number, gpu_id, gpu_kind, worker_id, model, plan, shape,
                          predicted_vram_bytes, predicted_seconds, started_at)
    SELECT m.job_id, m.lease, m.tenant, m.attempts, :gpu_id, :gpu_kind, :worker_id, m.model, m.plan, m.shape,
           m.est_model_bytes + m.est_working_bytes, m.est_seconds, :now
    FROM {moved} m
    """,
    """
    INSERT INTO events (position, at, type, subject, tenant, data)
    SELECT {position}, :now, 'job.running', m.job_id, j.tenant, :event{json}
    FROM {moved} m JOIN jobs j ON j.id = m.job_id
    """,
    table="job_states",
    still="job_id = :job_id AND status = 'running' AND lease = :fence",
    answer="""
    SELECT j.prompt, j.params, j.image_key, j.traceparent,
           coalesce((SELECT a.ended_at FROM attempts a WHERE a.job_id = m.job_id AND a.lease = m.lease - 1), m.ready_at)
               AS queued_at,
           m.est_model_bytes + m.est_working_bytes AS predicted_vram_bytes,
           c.key AS checkpoint_key, c.step AS checkpoint_step, c.fingerprint, c.plan AS checkpoint_plan,
           c.bytes AS checkpoint_bytes
    FROM {moved} m JOIN jobs j ON j.id = m.job_id LEFT JOIN checkpoints c ON c.job_id = m.job_id
    """,
)
