"""Models, and what a job on them would need."""

from fastapi import APIRouter

from app import presets
from app import schemas as api
from app.access import Caller
from app.context import Shared
from app.estimates import Inquiry
from app.openapi import problems
from app.submission import resolve
from scheduler.errors import NoModel, NotFound, Unschedulable

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models", summary="List the models with their limits", responses=problems(503))
def list_models(context: Shared) -> api.Page[api.Model]:
    """Return the models that workers serve, the default one first; empty before the first worker has registered."""
    try:
        served = context.scheduler.queue.models()
    except NoModel:
        return api.Page[api.Model](data=[])
    return api.Page[api.Model](data=[presets.model(context, one) for one in served.values()])


@router.get("/models/{model:path}", summary="Look at a model", responses=problems(404, 503))
def get_model(model: str, context: Shared) -> api.Model:
    """Return one model; an id may contain slashes."""
    served = context.scheduler.queue.models().get(model)
    if served is None:
        raise NotFound(f"no model {model[:80]!r}")
    return presets.model(context, served)


@router.post("/estimates", summary="Estimate a job without submitting it", responses=problems(403, 413, 422, 503))
def estimate_job(asked: api.EstimateRequest, context: Shared, caller: Caller) -> api.JobEstimate:
    """Return a quote for a job with these parameters: what it needs, where it fits or why not, when it would run.

    The times and the place are those of a job that is submitted at this moment; nothing is kept for it.
    """
    served, params = resolve(context, asked)
    queue = context.scheduler.queue
    offers = queue.quote(served.id, params)
    try:
        place = queue.outlook(served.id, params, priority=asked.priority, tenant=caller.tenant, window=asked.window)
    except Unschedulable:  # the answer says why
        place = None
    inquiry = Inquiry(
        served=served,
        params=params,
        priority=asked.priority,
        class_bytes=context.settings.memory_class_bytes,
        predictor=context.scheduler.footprints.current(),
        prices=context.settings.prices,
    )
    return inquiry.answer(offers, place)
