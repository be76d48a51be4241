"""Whether the service lives, whether it is ready, and what it is."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app import schemas as api
from app.context import Shared
from app.openapi import problems
from app.problems import problem
from scheduler.errors import SchedulerError

router = APIRouter(tags=["health"])


@router.get("/", summary="What this is")
async def get_root(request: Request) -> JSONResponse:
    """Return the name, the version and where to go on."""
    links = {
        "jobs": "/v1/jobs",
        "models": "/v1/models",
        "estimates": "/v1/estimates",
        "gpus": "/v1/admin/gpus",
        "health": "/healthz",
        "ready": "/readyz",
        "openapi": "/openapi.json",
    }
    return JSONResponse({"name": "reelq", "version": request.app.version, "links": links})


@router.get("/healthz", summary="Whether the process lives")
async def get_health() -> dict[str, str]:
    """Answer at once, whatever else is broken."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether jobs would run", response_model=api.Ready, responses=problems(503))
def get_ready(request: Request, context: Shared) -> Response:
    """Answer 200 when the database answers and a worker is ready, else 503 with what is missing."""
    try:
        gpus = context.scheduler.fleet.gpus()
    except SchedulerError as error:
        return problem(request.scope, 503, "not_ready", str(error))
    workers = [worker for gpu in gpus for worker in gpu.workers]
    ready = sum(worker.ready for worker in workers)
    if not ready:
        detail = f"no worker is ready: {len(gpus)} GPUs are known, {len(workers)} workers are loading"
        return problem(request.scope, 503, "not_ready", detail)
    return JSONResponse(api.Ready(workers=ready).model_dump())
