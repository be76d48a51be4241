"""Repeating a job that did not succeed: a new one of the same image, prompt and parameters."""

from dataclasses import replace

from app.access import Principal
from app.context import Context
from app.errors import RequestError
from app.schemas import JobFields
from app.sources import StoredSource
from app.submission import submit
from scheduler.errors import InvalidState, NotFound
from scheduler.records import Job
from scheduler.states import JobStatus
from scheduler.submitting import Submitted

_UNSUCCESSFUL = (JobStatus.FAILED, JobStatus.CANCELLED)


def retry(context: Context, caller: Principal, job: Job, idempotency_key: str | None) -> Submitted:
    """Submit a job that `caller` may see once more, without a deadline. Slow: call it in a thread.

    It is a submission by the old job's tenant, whoever asks, and is refused as any other. Raises `InvalidState` unless
    the old job has failed or was cancelled, and `RequestError` where its image is gone.
    """
    if job.status not in _UNSUCCESSFUL:
        raise InvalidState(f"job {job.id} is {job.status.value}: only failed and cancelled jobs can be retried")
    context.intake.check_disks()
    asked = JobFields(
        **job.params.to_dict(),
        model=job.model,
        prompt=job.prompt,
        priority=job.priority,
        metadata=dict(job.metadata),
        webhook_url=job.webhook_url,
        webhook_events=list(job.webhook_events) or None,
        result_ttl_seconds=job.result_ttl_seconds,
        window=job.window,
    )
    image = StoredSource(context.scheduler.blobs, job.image_key)
    owner = replace(caller, tenant=job.tenant)
    try:
        return submit(context, owner, asked, image, idempotency_key, retry_of=job.id)
    except NotFound:
        raise RequestError(410, "result_expired", f"the image of job {job.id} is gone") from None
