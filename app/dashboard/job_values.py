"""What pages tell of a job beside what its record says."""

from scheduler.records import Job
from scheduler.states import JobStatus


def picture(job: Job) -> str:
    """Return the path of a still image of a job: of its video where there is one, else the image that it came with."""
    has_video = job.result is not None and not job.result.expired
    return f"/v1/jobs/{job.id}/{'thumbnail' if has_video else 'image'}"


def waited_seconds(job: Job, now: float) -> float:
    """Return how long a job waited until it first ran, or ended without that; `now` is for one that waits still."""
    until = next((at for at in (job.started_at, job.finished_at) if at is not None), now)
    return max(0.0, until - job.created_at)


def ran_seconds(job: Job) -> float | None:
    """Return how long the last attempt of a job had its GPU; None where none has ended."""
    return job.measured.run_seconds if job.measured is not None and job.status is not JobStatus.RUNNING else None


def left_seconds(job: Job) -> float | None:
    """Return what is left of the prediction for a job that runs, by the progress made."""
    return None if job.progress is None else (1.0 - job.progress.fraction) * job.footprint.seconds


def can_cancel(job: Job) -> bool:
    """Whether a cancel would change anything."""
    return not job.status.ended and not job.cancel_requested


def can_retry(job: Job) -> bool:
    """Whether a job may be repeated as it was."""
    return job.status in (JobStatus.FAILED, JobStatus.CANCELLED)
