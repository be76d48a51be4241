"""Models, and what a job on them would need."""

from fastapi import APIRouter

from app import schemas as api
from app import views
from app.context import Shared
from app.estimates import Inquiry
from app.openapi import problems
from app.submission import resolve
from scheduler.errors import NoModel

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models", summary="List the models with their limits", responses=problems(503))
def list_models(context: Shared) -> api.Page[api.Model]:
    """Return the models that workers serve, the default one first; empty before the first worker has registered."""
    try:
        served = context.scheduler.queue.models()
    except NoModel:
        return api.Page[api.Model](data=[])
    return api.Page[api.Model](data=[views.model(one) for one in served.values()])


@router.post("/estimates", summary="Estimate a job without submitting it", responses=problems(403, 413, 422, 503))
def estimate_job(asked: api.EstimateRequest, context: Shared) -> api.JobEstimate:
    """Return the memory, seconds, weight and plan of a job with these parameters, and where it fits or why not."""
    served, params = resolve(context, asked)
    offers = context.scheduler.queue.quote(served.id, params)
    class_bytes = context.settings.memory_class_bytes
    predictor = context.scheduler.footprints.current()
    return Inquiry(served, params, asked.priority, class_bytes, predictor).answer(offers)
