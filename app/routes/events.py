"""The log of what happened to jobs, GPUs, models and the queue."""

from typing import Annotated

from fastapi import APIRouter, Query

from app import schemas as api
from app import views
from app.context import Shared
from app.errors import RequestError
from app.openapi import problems
from app.queries import KnownParameters
from scheduler.errors import EventsExpired

router = APIRouter(prefix="/v1/admin/events", tags=["admin"])


@router.get(
    "", summary="List what happened, oldest first", responses=problems(410, 422, 503), dependencies=[KnownParameters]
)
def list_events(
    context: Shared,
    after: Annotated[api.Integer, Query(ge=0, description="A position; 0: from the oldest event that is kept")] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    subject: Annotated[
        str | None,
        Query(pattern=r"^[\x21-\x7e]{1,200}$", description="Only events of this job, GPU or model, or of `queue`"),
    ] = None,
) -> api.Page[api.Event]:
    """Return a page of events. `next_cursor` is never null: it is the `after` with which to go on, now or later.

    410 says that events past `after` are no longer kept; the smallest `after` that may be asked for is its `limit`.
    """
    events = context.scheduler.events
    end = events.last()  # before the page is read, which has then all that is wanted up to here
    try:
        found = events.read(after, limit + 1, subject)
    except EventsExpired as error:
        raise RequestError(410, "events_expired", str(error), field="after", limit=error.first - 1) from error
    page, more = found[:limit], len(found) > limit
    seen = page[-1].position if page else after
    return api.Page[api.Event](
        data=[views.event(event) for event in page],
        has_more=more,
        next_cursor=str(seen if more else max(seen, end)),
    )
