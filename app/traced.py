"""A span for each submission: it takes up the caller's trace, and all that happens to the job belongs to it."""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.headers import headers
from scheduler.tracing import Tracer

_SUBMITS = re.compile(r"/v1/(?:jobs|videos|jobs/[^/]+/retry)")


class SubmitSpans:
    """Plain ASGI, around everything else: a span lasts from the request's head to the end of its answer."""

    def __init__(self, app: ASGIApp, *, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or not _SUBMITS.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        given = list(headers(scope, b"traceparent"))
        with self._tracer.serving("submit", given[0] if len(given) == 1 else None):
            self._tracer.note({"http.request.method": scope["method"], "url.path": scope["path"]})
            await self._app(scope, receive, self._noting(send))

    def _noting(self, send: Send) -> Send:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                self._tracer.note({"http.response.status_code": status}, error=status >= 500)
            await send(message)

        return noting
