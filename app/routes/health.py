"""Whether the service lives, and whether it is ready."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app import schemas as api
from app.context import Shared
from app.openapi import problems
from app.problems import problem, told
from scheduler.errors import SchedulerError
from scheduler.records import Gpu
from scheduler.states import GpuState

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process lives")
async def get_health() -> dict[str, str]:
    """Answer at once, whatever else is broken."""
    return {"status": "ok"}


@router.get(
    "/readyz", summary="Whether jobs are taken and would run", response_model=api.Ready, responses=problems(503)
)
def get_ready(request: Request, context: Shared) -> Response:
    """Answer 200 when the database answers and a worker is ready, or none is because the operator wants it so.

    A queue that is paused, and GPUs that are drained, run nothing but jobs are taken; so they are where GPUs are
    started for them. Else 503 with what is missing.
    """
    try:
        gpus = context.scheduler.fleet.gpus()
        usable = [gpu for gpu in gpus if gpu.online and gpu.state is not GpuState.FAULTED]
        ready = sum(worker.ready for gpu in usable for worker in gpu.workers)
        drained = sum(gpu.state in (GpuState.DRAINING, GpuState.DRAINED) for gpu in gpus)
        comes = context.capacity is not None and any(gpu.state is not GpuState.FAULTED for gpu in gpus)
        paused = not ready and gpus and context.scheduler.control.state().paused_at is not None
        held_back = drained or comes or paused
    except SchedulerError as error:
        return problem(request.scope, 503, "not_ready", told(error))
    if not ready and not held_back:
        return problem(request.scope, 503, "not_ready", f"no worker is ready: {_missing(gpus)}")
    return JSONResponse(api.Ready(workers=ready, drained_gpus=drained).model_dump())


def _missing(gpus: Sequence[Gpu]) -> str:
    """Why no worker of these GPUs, of which none is drained, is ready."""
    if not gpus:
        return "no GPU has registered"
    faulted = sum(gpu.state is GpuState.FAULTED for gpu in gpus)
    offline = sum(gpu.state is not GpuState.FAULTED and not gpu.online for gpu in gpus)
    counts = {"faulted": faulted, "offline": offline, "loading a model": len(gpus) - faulted - offline}
    words = ", ".join(f"{count} {'is' if count == 1 else 'are'} {what}" for what, count in counts.items() if count)
    return f"of {len(gpus)} GPUs {words}"
