"""What ran where and when."""

from typing import Annotated

from fastapi import APIRouter, Query

from app import schemas as api
from app import timelines
from app.context import Shared
from app.openapi import problems
from app.queries import KnownParameters
from app.times import parse_time

router = APIRouter(prefix="/v1/admin", tags=["admin"])


@router.get(
    "/timeline", summary="Look at what ran when", responses=problems(404, 422, 503), dependencies=[KnownParameters]
)
def get_timeline(
    context: Shared,
    since: Annotated[str | None, Query(description="When it begins (RFC 3339); an hour before its end")] = None,
    until: Annotated[str | None, Query(description="When it ends (RFC 3339); now")] = None,
    gpu: Annotated[str | None, Query(description="A GPU's id; all, those too that have left since")] = None,
) -> api.Timeline:
    """Return for each GPU the attempts that ran in this time, of at most 31 days, and the curve of its memory.

    Attempts that follow each other and are too short to be told apart are blocks of several.
    """
    found = context.scheduler.timeline.read(
        since=None if since is None else parse_time("since", since),
        until=None if until is None else parse_time("until", until),
        gpu_id=gpu,
    )
    return timelines.view(found)
