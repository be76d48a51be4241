"""What a worker says of a lease that it holds: that it is alive, and that it has succeeded.

Both are hot, so they are scripts on the driver. Each carries the lease's fence, and changes nothing where that is no
longer the job's own.
"""

import json
from dataclasses import fields
from typing import Any

from scheduler.records import Measured
from scheduler.store import checkpoints
from scheduler.store.script import Chain

_MEASURED = tuple(field.name for field in fields(Measured))  # named as the columns of an attempt are

# The other leases of a lane have waited until now: a worker that ends one has not been idle with the next.
_NEXT_IN_LANE = """
    UPDATE leases SET progress_at = {now}
    WHERE job_id IN (
        SELECT job_id FROM leases
        WHERE worker_id = :worker_id AND lane = :lane AND stage = 'loading' AND job_id <> :job_id {skip_locked}
    ) AND EXISTS (SELECT 1 FROM {moved} m)
"""

# running → succeeded, and the result becomes visible: exactly once, by the fence.
SUCCEED = Chain(
    """
    UPDATE job_states SET status = 'succeeded', finished_at = {now}, version = version + 1
    WHERE job_id = :job_id AND status = 'running' AND lease = :fence AND cancel_requested_at IS NULL
    """,
    """
    UPDATE attempts
    SET ended_at = {now}, outcome = 'succeeded', vram_peak_bytes = :vram_peak_bytes, run_seconds = :run_seconds,
        working_peak_bytes = :working_peak_bytes, steps = :steps, step_seconds = :step_seconds,
        fixed_seconds = :fixed_seconds, sharing = :sharing, energy_joules = :energy_joules,
        stage_seconds = :stage_seconds{json}
    WHERE job_id = :job_id AND lease = :fence AND EXISTS (SELECT 1 FROM {moved} m)
    """,
    """
    INSERT INTO results (job_id, video_key, thumbnail_key, preview_key, bytes, sha256, width, height, num_frames, fps,
                         duration_seconds, expires_at)
    SELECT m.job_id, :video_key, :thumbnail_key, :preview_key, :bytes, :sha256, :width, :height, :num_frames, :fps,
           :duration_seconds,
           m.finished_at + coalesce(j.result_ttl_seconds, CAST(:result_seconds AS double precision))
    FROM {moved} m JOIN jobs j ON j.id = m.job_id
    """,
    """
    INSERT INTO events (position, at, type, subject, tenant, data)
    SELECT {position}, m.finished_at, 'job.succeeded', m.job_id, j.tenant, :event{json}
    FROM {moved} m JOIN jobs j ON j.id = m.job_id
    """,
    "DELETE FROM checkpoints WHERE job_id = :job_id AND EXISTS (SELECT 1 FROM {moved} m)",
    _NEXT_IN_LANE,
    "DELETE FROM leases WHERE job_id = :job_id AND lease = :fence AND EXISTS (SELECT 1 FROM {moved} m)",
    table="job_states",
    still="job_id = :job_id AND status = 'succeeded' AND lease = :fence",
    answer="SELECT m.job_id FROM {moved} m",
)

_ALIVE = (
    """
    UPDATE leases
    SET expires_at = {now} + :lease_seconds, reports = reports + 1,
        progress_at = CASE WHEN stage = :stage AND step = :step AND fraction = :fraction THEN progress_at
                           ELSE {now} END,
        stage = :stage, step = :step, fraction = :fraction
    WHERE job_id = :job_id AND lease = :fence
    """,
    "UPDATE workers SET seen_at = {now} WHERE id = :worker_id AND EXISTS (SELECT 1 FROM {moved} m)",
)
_SAVED = (
    f"INSERT INTO checkpoints ({checkpoints.COLUMNS})"  # noqa: S608  our own words
    " SELECT m.job_id, m.lease, :key, :saved_step, :fingerprint, :plan, :bytes, {now} FROM {moved} m WHERE true"
    f" {checkpoints.UNLESS_NEWER}"
)


def _report(*statements: str) -> Chain:
    return Chain(
        *statements,
        table="leases",
        still="job_id = :job_id AND lease = :fence",
        answer="""
        SELECT s.cancel_requested_at, m.release_requested_at FROM {moved} m JOIN job_states s ON s.job_id = m.job_id
        """,
    )


# A sign of life: the lease's and its worker's; the second one also names a checkpoint.
REPORT = _report(*_ALIVE)
REPORT_SAVED = _report(*_ALIVE, _SAVED)


def measures(measured: Measured) -> dict[str, Any]:
    """Return the parameters of `SUCCEED` for what an attempt used."""
    values = measured_columns(measured)
    return {**values, "stage_seconds": json.dumps(values["stage_seconds"])}


def measured_columns(measured: Measured) -> dict[str, Any]:
    """Return what an attempt used, by the columns of an attempt."""
    values = {name: getattr(measured, name) for name in _MEASURED}
    return {**values, "stage_seconds": dict(measured.stage_seconds)}
