"""Server-sent events: one job's changes as a stream that a client can take up again where it was cut.

What a stream tells is the job as it is, not its history: an event says all, so a reader that was away has missed
nothing once it has the next one. `id` is the job's version; a reader that sends it back as `Last-Event-ID` hears only
what is newer. Once the job has ended the stream is closed, and who comes back after that is told so (204).
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.looks import Look, Version

KEEP_ALIVE_SECONDS = 15.0  # proxies give up on a silent connection after a minute, some sooner
RETRY_MILLISECONDS = 1000
KEEP_ALIVE = b": still here\n\n"
_ID = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)


def version_of(last_event_id: str | None) -> Version | None:
    """Return the version that a Last-Event-ID names; None where it names none, so that the reader is told all."""
    match = _ID.fullmatch(last_event_id or "")
    return (int(match[1]), int(match[2])) if match else None


def event(look: Look, last: Version | None) -> bytes:
    """Return the event for a reader whose last one had the version `last`.

    `status`, with the whole job, after a change of its state; `progress`, with that alone, after a step.
    """
    changed = last is None or last[0] != look.version[0]
    name, data = ("status", look.body) if changed else ("progress", _progress(look))
    return b"event: %s\nid: %d-%d\ndata: %s\n\n" % (name.encode(), *look.version, data)


def _progress(look: Look) -> bytes:
    job = look.job
    told = job.progress
    progress = {"fraction": told.fraction, "step": told.step, "steps": told.steps} if told else None
    stage = told.stage if told else None
    return json.dumps({"id": job.id, "status": job.status, "stage": stage, "progress": progress}).encode()


class EventStream(Response):
    """Sends events until there are no more, the client leaves, or the server stops."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})  # nginx would hold them back
        self._events = events

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Leave out the length, which nobody knows."""
        super().init_headers(headers)
        self.raw_headers = [header for header in self.raw_headers if header[0] != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's
        """Send them."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await task

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self._events:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
