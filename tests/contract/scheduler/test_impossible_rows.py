"""The database itself refuses rows that no transition could have made."""

import pytest
from sqlalchemy.exc import IntegrityError

from scheduler.service import Scheduler
from tests.support.fleet import MEASURED, RESULT, new_job, register_gpu

QUEUED, RUNNING, DONE = "job_1", "job_2", "job_3"

IMPOSSIBLE = {
    "an unknown status": "UPDATE job_states SET status = 'paused' WHERE job_id = 'job_1'",
    "an ended job without an end": "UPDATE job_states SET status = 'cancelled' WHERE job_id = 'job_1'",
    "a queued job with an end": "UPDATE job_states SET finished_at = 1 WHERE job_id = 'job_1'",
    "a failure without an error": "UPDATE job_states SET status = 'failed', finished_at = 1 WHERE job_id = 'job_1'",
    "an error without a failure": "UPDATE job_states SET error_code = 'x' WHERE job_id = 'job_3'",
    "a running job without a fence": "UPDATE job_states SET status = 'running', started_at = 1 WHERE job_id = 'job_1'",
    "a running job without a start": "UPDATE job_states SET started_at = NULL WHERE job_id = 'job_2'",
    "more attempts than leases": "UPDATE job_states SET attempts = 2 WHERE job_id = 'job_2'",
    "less than no attempt": "UPDATE job_states SET attempts = -1 WHERE job_id = 'job_2'",
    "a priority of nothing": "UPDATE job_states SET priority = 0 WHERE job_id = 'job_1'",
    "a weight of nothing": "UPDATE job_states SET weight = 0 WHERE job_id = 'job_1'",
    "a job that takes no time": "UPDATE job_states SET est_seconds = 0 WHERE job_id = 'job_1'",
    "a job that takes no memory": "UPDATE job_states SET memory_class = 0 WHERE job_id = 'job_1'",
    "a state without a job": "UPDATE job_states SET job_id = 'job_9' WHERE job_id = 'job_1'",
    "a job that may never run": "UPDATE jobs SET max_attempts = 0",
    "an unknown stage": "UPDATE leases SET stage = 'sleeping'",
    "more steps than there are": "UPDATE leases SET step = steps + 1",
    "a negative step": "UPDATE leases SET step = -1",
    "a lease on no memory": "UPDATE leases SET reserved_bytes = 0",
    "a lease without a fence": "UPDATE leases SET lease = 0",
    "a lease on an unknown GPU": "UPDATE leases SET gpu_id = 'GPU-9'",
    "a second lease of one job": (
        "INSERT INTO leases (job_id, lease, gpu_id, worker_id, reserved_bytes, expires_at, stage, step, steps,"
        " fraction, reports) SELECT job_id, lease + 1, gpu_id, worker_id, reserved_bytes, expires_at, stage, step,"
        " steps, fraction, reports FROM leases"
    ),
    "a second result of one job": (
        "INSERT INTO results (job_id, video_key, thumbnail_key, bytes, sha256, width, height, num_frames, fps,"
        " duration_seconds) SELECT job_id, video_key, thumbnail_key, bytes, sha256, width, height, num_frames, fps,"
        " duration_seconds FROM results"
    ),
    "an attempt with an end but no outcome": "UPDATE attempts SET ended_at = 1 WHERE job_id = 'job_2'",
    "an attempt with an outcome but no end": "UPDATE attempts SET outcome = 'failed' WHERE job_id = 'job_2'",
    "an unknown outcome": "UPDATE attempts SET outcome = 'lost' WHERE job_id = 'job_3'",
    "two attempts under one fence": (
        "INSERT INTO attempts (job_id, lease, tenant, number, gpu_id, gpu_kind, worker_id, model, plan, shape,"
        " predicted_vram_bytes, predicted_seconds, started_at) SELECT job_id, lease, tenant, number, gpu_id, gpu_kind,"
        " worker_id, model, plan, shape, predicted_vram_bytes, predicted_seconds, started_at FROM attempts"
        " WHERE job_id = 'job_2'"
    ),
    "a bucket that begins between two": "UPDATE gpu_samples SET at = at + 1",
    "a bucket without a sample": "UPDATE gpu_samples SET samples = 0",
    "a GPU busy for longer than it was seen": "UPDATE gpu_samples SET busy_seconds = seconds + 1",
    "more hot samples than looks at the utilisation": "UPDATE gpu_samples SET hot_samples = 1",
    "a key that means two jobs": (
        "INSERT INTO idempotency_keys (tenant, key, payload_sha256, job_id) VALUES ('default', 'k', 'b', 'job_2')"
    ),
    "an unknown state of a GPU": "UPDATE gpus SET state = 'asleep'",
    "a drain without a reason": "UPDATE gpus SET state = 'draining'",
    "half a memory reading": "UPDATE gpus SET used_bytes = NULL",
    "headroom as large as the GPU": "UPDATE gpus SET headroom_bytes = total_bytes",
    "negative headroom": "UPDATE gpus SET headroom_bytes = -1",
    "a process of less than nothing": "UPDATE workers SET resident_bytes = -1",
    "a worker on an unknown GPU": "UPDATE workers SET gpu_id = 'GPU-9'",
    "a GPU gone from under its workers": "DELETE FROM gpus",
}


@pytest.fixture
def populated(scheduler: Scheduler) -> Scheduler:
    """A queued, a running and a succeeded job."""
    gpu = register_gpu(scheduler)
    scheduler.queue.submit(new_job(id=DONE, idempotency_key="k", payload_sha256="a"))
    scheduler.leases.succeed(gpu.must_claim(), RESULT, MEASURED)
    scheduler.queue.submit(new_job(id=RUNNING))
    gpu.must_claim()
    scheduler.queue.submit(new_job(id=QUEUED))
    return scheduler


def test_the_database_refuses_impossible_rows(populated: Scheduler) -> None:
    accepted = []
    for name, statement in IMPOSSIBLE.items():
        try:
            with populated.database.write() as conn:
                assert conn.exec_driver_sql(statement).rowcount > 0, f"{name}: the statement met no row"
        except IntegrityError:
            continue
        accepted.append(name)

    assert accepted == []
