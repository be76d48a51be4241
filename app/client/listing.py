"""Reading lists to their end, and the log of what happened on as it grows, past restarts of the server."""

from typing import Any, Unpack, cast

from app.client import calls
from app.client.effects import Emit, Emits, Send, Sleep
from app.client.exchange import Server, exchange, json_of, perform
from app.client.fields import known
from app.client.retry import A_RESTART
from app.client.types import Event, Filters, Job, Page

_POLL_SECONDS = 1.0
_MOST_JOBS = 100  # on a page


def iterate(server: Server, **filters: Unpack[Filters]) -> Emits[Job]:
    """Yield all jobs that the filters let through, newest first."""
    cursor = None
    while True:
        page = yield from perform(server, calls.list_jobs(limit=_MOST_JOBS, cursor=cursor, **filters))
        for job in page["data"]:
            yield Emit(job)
        if not page["has_more"]:
            return
        cursor = page["next_cursor"]


def events(server: Server, after: int = 0, subject: str | None = None, *, follow: bool = False) -> Emits[Event]:
    """Yield what happened past position `after`, of one job or GPU where `subject` names it, in order.

    With `follow` it goes on as things happen, and when the server restarts. `ApiError` with the code
    `events_expired` says that some are no longer kept.
    """
    retry = A_RESTART if follow else server.retry
    while True:
        query: dict[str, Any] = known({"after": after, "subject": subject})
        answer = yield from exchange(server, Send("GET", "/v1/admin/events", {"params": query}), retry)
        page = cast("Page[Event]", json_of(answer))
        for event in page["data"]:
            yield Emit(event)
        after = int(page["next_cursor"] or after)
        if page["has_more"]:
            continue
        if not follow:
            return
        yield Sleep(_POLL_SECONDS)
