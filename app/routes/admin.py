"""The operator's side: GPUs, drain and resume."""

import re

import structlog
from fastapi import APIRouter

from app import schemas as api
from app import views
from app.context import Shared
from app.openapi import problems
from scheduler.errors import InvalidParameter, NotFound

router = APIRouter(prefix="/v1/admin/gpus", tags=["admin"])
log = structlog.get_logger(__name__)

_GPU_ID = re.compile(r"[\x21-\x7e]{1,200}")
_ACTOR = "api"


@router.get("", summary="List the GPUs", responses=problems(503))
def list_gpus(context: Shared) -> api.Page[api.Gpu]:
    """Return every GPU that ever registered, with its memory, workers and running jobs."""
    return api.Page[api.Gpu](data=[views.gpu(gpu) for gpu in context.scheduler.fleet.gpus()])


@router.get("/{gpu_id}", summary="Look at a GPU", responses=problems(404, 503))
def get_gpu(gpu_id: str, context: Shared) -> api.Gpu:
    """Return one GPU."""
    return views.gpu(context.scheduler.fleet.gpu(_known(gpu_id)))


@router.post("/{gpu_id}/drain", summary="Drain a GPU", responses=problems(403, 404, 413, 422, 503))
def drain_gpu(gpu_id: str, asked: api.DrainRequest, context: Shared) -> api.Gpu:
    """Give a GPU no new jobs; it is `drained` when its last job has ended and our process there is gone.

    Saying it again only replaces the reason.
    """
    if asked.mode != "finish":
        raise InvalidParameter("mode", f"must be 'finish', the only mode of this version, not {asked.mode[:40]!r}")
    gpu = context.scheduler.fleet.drain(_known(gpu_id), asked.reason, _ACTOR)
    log.info("gpu drain asked for", gpu_id=gpu_id, reason=gpu.reason, state=gpu.state.value)
    return views.gpu(gpu)


@router.post("/{gpu_id}/resume", summary="Give a GPU jobs again", responses=problems(403, 404, 503))
def resume_gpu(gpu_id: str, context: Shared) -> api.Gpu:
    """Make a GPU active again, whatever took it out."""
    gpu = context.scheduler.fleet.resume(_known(gpu_id), _ACTOR)
    log.info("gpu resumed", gpu_id=gpu_id)
    return views.gpu(gpu)


def _known(gpu_id: str) -> str:
    if not _GPU_ID.fullmatch(gpu_id):
        raise NotFound(f"no GPU {gpu_id[:80]!r}")
    return gpu_id
