"""The operator's side of the queue: look at it, pause it, move a job or stop one, hold a model."""

import structlog
from fastapi import APIRouter, Request

from app import schemas as api
from app import views
from app.context import Context, Shared
from app.openapi import problems
from scheduler.errors import NotFound
from scheduler.ids import is_id

router = APIRouter(prefix="/v1/admin", tags=["admin"])
log = structlog.get_logger(__name__)

_ACTOR = "api"


@router.get("/queue", summary="Look at the queue", responses=problems(503))
def get_queue(context: Shared) -> api.QueueStatus:
    """Return whether the queue is paused, its depth by memory class, the oldest wait, and the GPUs kept for jobs."""
    return views.queue_status(context.scheduler.control.state())


@router.post("/queue/pause", summary="Pause the queue", responses=problems(403, 413, 422, 503))
def pause_queue(asked: api.PauseRequest, context: Shared) -> api.QueueStatus:
    """Let no queued job start on any GPU. Running jobs go on, and new ones are taken.

    Saying it again only replaces the reason.
    """
    state = context.scheduler.control.pause(asked.reason, _ACTOR)
    log.info("queue paused", reason=state.pause_reason)
    return views.queue_status(state)


@router.post("/queue/resume", summary="Let queued jobs start again", responses=problems(403, 503))
def resume_queue(context: Shared) -> api.QueueStatus:
    """End a pause; while there is none, this changes nothing."""
    state = context.scheduler.control.resume(_ACTOR)
    log.info("queue resumed")
    return views.queue_status(state)


@router.patch(
    "/jobs/{job_id}", summary="Change a queued job's priority", responses=problems(403, 404, 409, 413, 422, 503)
)
def patch_job(job_id: str, asked: api.JobPatch, request: Request, context: Shared) -> api.Job:
    """Give a queued job another priority: it moves to where it would stand, had it been submitted with that one."""
    if not is_id(job_id):
        raise NotFound(f"no job {job_id[:80]}")
    job = context.scheduler.control.reprioritize(job_id, asked.priority, _ACTOR)
    log.info("job reprioritized", job_id=job_id, priority=job.priority)
    return views.job(job, context.scheduler.queue.explain(job), str(request.base_url).rstrip("/"))


@router.post(
    "/jobs/{job_id}/preempt", summary="Stop a running job for now", responses=problems(403, 404, 409, 413, 422, 503)
)
def preempt_job(job_id: str, request: Request, context: Shared, asked: api.PreemptRequest | None = None) -> api.Job:
    """Have a running job stop at its next step and go back to the queue, from where it goes on later.

    It costs the job no attempt, and it keeps its place in line: what ranks higher goes first. Saying it again changes
    nothing.
    """
    if not is_id(job_id):
        raise NotFound(f"no job {job_id[:80]}")
    reason = asked.reason if asked is not None else None
    job = context.scheduler.control.preempt(job_id, _ACTOR, reason)
    log.info("job preempted", job_id=job_id, reason=reason)
    return views.job(job, None, str(request.base_url).rstrip("/"))


@router.post(
    "/models/{model:path}/hold",
    summary="Let no job of a model start",
    responses=problems(403, 404, 413, 422, 503),
)
def hold_model(model: str, asked: api.HoldRequest, context: Shared) -> api.Model:
    """Let no queued job of a model start on any GPU. Running jobs go on, and new ones are taken.

    Saying it again only replaces the reason.
    """
    served = context.scheduler.control.hold_model(_known_model(context, model), asked.reason, _ACTOR)
    log.info("model held", model=served.id, reason=served.held)
    return views.model(served)


@router.post(
    "/models/{model:path}/release", summary="Let the jobs of a model start again", responses=problems(403, 404, 503)
)
def release_model(model: str, context: Shared) -> api.Model:
    """End the hold of a model, whoever began it; while there is none, this changes nothing."""
    served = context.scheduler.control.release_model(_known_model(context, model), _ACTOR)
    log.info("model released", model=served.id)
    return views.model(served)


def _known_model(context: Context, model: str) -> str:
    if model not in context.scheduler.queue.models():
        raise NotFound(f"no model {model[:80]!r}")
    return model
