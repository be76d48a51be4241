"""Reading the log of what happened: page by page, and on as it grows, past restarts of the server."""

from collections.abc import Iterator
from typing import cast

from app.client.retry import A_RESTART, Retry
from app.client.transport import Transport, json_of
from app.client.types import Event, Page

_POLL_SECONDS = 1.0


def stream(transport: Transport, after: int, subject: str | None, *, follow: bool, retry: Retry) -> Iterator[Event]:
    """Yield every event past position `after`; see `Client.events`."""
    while True:
        query = {"after": after} if subject is None else {"after": after, "subject": subject}
        answer = transport.send("GET", "/v1/admin/events", retry=A_RESTART if follow else retry, params=query)
        page = cast("Page", json_of(answer))
        yield from page["data"]
        after = int(page["next_cursor"])
        if page["has_more"]:
            continue
        if not follow:
            return
        transport.sleep(_POLL_SECONDS)
