"""The operator's side of the fleet: GPUs, now and over time, drain and resume, one by one or many at once."""

from collections.abc import Sequence
from typing import Annotated

import structlog
from fastapi import APIRouter, Query

from app import schemas as api
from app import views
from app.access import Caller, known_gpu
from app.context import Context, Shared
from app.openapi import problems
from app.queries import KnownParameters
from app.times import parse_time
from scheduler.drains import DrainOrder
from scheduler.states import DrainMode, OnDeadline

router = APIRouter(prefix="/v1/admin", tags=["admin"])
log = structlog.get_logger(__name__)


@router.get("/gpus", summary="List the GPUs", responses=problems(503))
def list_gpus(context: Shared) -> api.Page[api.Gpu]:
    """Return every GPU that is registered, with its memory, workers and running jobs."""
    return api.Page[api.Gpu](data=[views.gpu(gpu) for gpu in context.scheduler.fleet.gpus()])


@router.get("/gpus/{gpu_id}", summary="Look at a GPU", responses=problems(404, 503))
def get_gpu(gpu_id: str, context: Shared) -> api.Gpu:
    """Return one GPU."""
    return views.gpu(context.scheduler.fleet.gpu(known_gpu(gpu_id)))


@router.get(
    "/samples", summary="Look at a GPU over time", responses=problems(404, 422, 503), dependencies=[KnownParameters]
)
def list_samples(
    context: Shared,
    gpu: Annotated[str, Query(description="The GPU's id; also one that has left")],
    since: Annotated[str | None, Query(description="RFC 3339; default: an hour before `until`")] = None,
    until: Annotated[str | None, Query(description="RFC 3339, exclusive; default: now")] = None,
) -> api.SampleList:
    """Return memory, utilisation, power and temperature, in at most 600 points, as fine as is kept for all that time.

    Samples are kept in steps of 5 seconds for an hour, of a minute for a week, and of an hour for a year.
    """
    gpu_id = known_gpu(gpu)
    end = None if until is None else parse_time("until", until)
    begin = None if since is None else parse_time("since", since)
    found = context.scheduler.samples.series(gpu_id, begin, end)
    if not found.points:
        context.scheduler.fleet.gpu(gpu_id)  # or there is no such GPU
    return views.samples(gpu_id, found)


@router.post("/gpus/{gpu_id}/drain", summary="Drain a GPU", responses=problems(403, 404, 413, 422, 503))
def drain_gpu(gpu_id: str, asked: api.DrainRequest, context: Shared, caller: Caller) -> api.Gpu:
    """Give a GPU no new jobs; it is `drained` when its last job has ended and our process there is gone.

    Saying it again replaces reason, mode, deadline and the time to resume, which count from then. A drained GPU stays
    drained, and a job that was asked to stop still does.
    """
    return _drain(context, caller.actor, [gpu_id], asked)[0]


@router.post("/gpus/{gpu_id}/resume", summary="Give a GPU jobs again", responses=problems(403, 404, 503))
def resume_gpu(gpu_id: str, context: Shared, caller: Caller) -> api.Gpu:
    """Make a GPU active again, whatever took it out."""
    return _resume(context, caller.actor, [gpu_id])[0]


@router.post("/drain", summary="Drain several GPUs", responses=problems(403, 404, 413, 422, 503))
def drain_gpus(asked: api.DrainManyRequest, context: Shared, caller: Caller) -> api.Page[api.Gpu]:
    """Drain several GPUs at the same moment: all of them, or none where one is not known."""
    return api.Page[api.Gpu](data=_drain(context, caller.actor, asked.gpus, asked))


@router.post("/resume", summary="Give several GPUs jobs again", responses=problems(403, 404, 413, 422, 503))
def resume_gpus(asked: api.ResumeManyRequest, context: Shared, caller: Caller) -> api.Page[api.Gpu]:
    """Make several GPUs active again at the same moment: all of them, or none where one is not known."""
    return api.Page[api.Gpu](data=_resume(context, caller.actor, asked.gpus))


def _drain(context: Context, actor: str, gpu_ids: Sequence[str], asked: api.DrainRequest) -> list[api.Gpu]:
    fleet, gpu_ids = context.scheduler.fleet, _all_known(gpu_ids)
    order = DrainOrder(
        reason=asked.reason,
        actor=actor,
        mode=DrainMode(asked.mode),
        deadline_seconds=asked.deadline_seconds,
        on_deadline=OnDeadline(asked.on_deadline),
        resume_after_seconds=asked.resume_after_seconds,
    )
    if asked.dry_run:
        return [views.gpu(fleet.gpu(preview.gpu_id), preview) for preview in fleet.drain_preview(gpu_ids, order)]
    gpus = fleet.drain_all(gpu_ids, order)
    for gpu in gpus:
        log.info("gpu drain asked for", gpu_id=gpu.info.id, reason=gpu.reason, mode=asked.mode, state=gpu.state.value)
    return [views.gpu(gpu) for gpu in gpus]


def _resume(context: Context, actor: str, gpu_ids: Sequence[str]) -> list[api.Gpu]:
    gpus = context.scheduler.fleet.resume_all(_all_known(gpu_ids), actor)
    for gpu in gpus:
        log.info("gpu resumed", gpu_id=gpu.info.id)
    return [views.gpu(gpu) for gpu in gpus]


def _all_known(gpu_ids: Sequence[str]) -> list[str]:
    return [known_gpu(gpu_id) for gpu_id in dict.fromkeys(gpu_ids)]
