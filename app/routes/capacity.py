"""How many GPUs there should be, and what was done about it."""

from fastapi import APIRouter

from app import provisioning
from app import schemas as api
from app.context import Shared
from app.openapi import problems

router = APIRouter(prefix="/v1/admin/capacity", tags=["admin"])


@router.get("", summary="Look at the capacity", responses=problems(503))
def get_capacity(context: Shared) -> api.CapacityStatus:
    """Return how many GPUs the work that is due wants, how many there are, and the last calls of the hook."""
    capacity = context.capacity
    state = None if capacity is None else capacity.state()
    return provisioning.view(context.settings, state, enabled=capacity is not None)
