"""The operator's side of the queue: look at it, pause it, move a job or stop one, hold a model."""

import structlog
from fastapi import APIRouter, Request, Response

from app import presets, views
from app import schemas as api
from app.access import Caller, visible
from app.answers import answer
from app.context import Context, Shared
from app.openapi import problems
from scheduler.errors import NotFound

router = APIRouter(prefix="/v1/admin", tags=["admin"])
log = structlog.get_logger(__name__)


@router.get("/queue", summary="Look at the queue", responses=problems(503))
def get_queue(context: Shared) -> api.QueueStatus:
    """Return whether the queue is paused, its depth by memory class, the oldest wait, and the GPUs kept for jobs."""
    return views.queue_status(context.scheduler.control.state())


@router.post("/queue/pause", summary="Pause the queue", responses=problems(403, 413, 422, 503))
def pause_queue(asked: api.PauseRequest, context: Shared, caller: Caller) -> api.QueueStatus:
    """Let no queued job start on any GPU. Running jobs go on, and new ones are taken.

    Saying it again only replaces the reason.
    """
    state = context.scheduler.control.pause(asked.reason, caller.actor)
    log.info("queue paused", reason=state.pause_reason)
    return views.queue_status(state)


@router.post("/queue/resume", summary="Let queued jobs start again", responses=problems(403, 503))
def resume_queue(context: Shared, caller: Caller) -> api.QueueStatus:
    """End a pause; while there is none, this changes nothing."""
    state = context.scheduler.control.resume(caller.actor)
    log.info("queue resumed")
    return views.queue_status(state)


@router.patch(
    "/jobs/{job_id}",
    summary="Change a queued job's priority",
    response_model=api.Job,
    responses=problems(403, 404, 409, 413, 422, 503),
)
def patch_job(job_id: str, asked: api.JobPatch, request: Request, context: Shared, caller: Caller) -> Response:
    """Give a queued job another priority: it moves to where it would stand, had it been submitted with that one."""
    visible(context, caller, job_id)
    job = context.scheduler.control.reprioritize(job_id, asked.priority, caller.actor)
    log.info("job reprioritized", job_id=job_id, priority=job.priority)
    return answer(context, job, request)


@router.post(
    "/jobs/{job_id}/preempt",
    summary="Stop a running job for now",
    response_model=api.Job,
    responses=problems(403, 404, 409, 413, 422, 503),
)
def preempt_job(
    job_id: str, request: Request, context: Shared, caller: Caller, asked: api.PreemptRequest | None = None
) -> Response:
    """Have a running job stop at its next step and go back to the queue, from where it goes on later.

    It costs the job no attempt, and it keeps its place in line: what ranks higher goes first. Saying it again changes
    nothing.
    """
    visible(context, caller, job_id)
    reason = asked.reason if asked is not None else None
    job = context.scheduler.control.preempt(job_id, caller.actor, reason)
    return answer(context, job, request)


@router.post(
    "/models/{model:path}/hold",
    summary="Let no job of a model start",
    responses=problems(403, 404, 413, 422, 503),
)
def hold_model(model: str, asked: api.HoldRequest, context: Shared, caller: Caller) -> api.Model:
    """Let no queued job of a model start on any GPU. Running jobs go on, and new ones are taken.

    Saying it again only replaces the reason.
    """
    served = context.scheduler.control.hold_model(_known_model(context, model), asked.reason, caller.actor)
    log.info("model held", model=served.id, reason=served.held)
    return presets.model(context, served)


@router.post(
    "/models/{model:path}/release", summary="Let the jobs of a model start again", responses=problems(403, 404, 503)
)
def release_model(model: str, context: Shared, caller: Caller) -> api.Model:
    """End the hold of a model, whoever began it; while there is none, this changes nothing."""
    served = context.scheduler.control.release_model(_known_model(context, model), caller.actor)
    log.info("model released", model=served.id)
    return presets.model(context, served)


def _known_model(context: Context, model: str) -> str:
    if model not in context.scheduler.queue.models():
        raise NotFound(f"no model {model[:80]!r}")
    return model
