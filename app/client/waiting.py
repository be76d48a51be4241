"""Following a job: by its stream of events where there is one, by long polls where not, past restarts of the server."""

import json
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import httpx

from app.client.effects import Effect, Emit, Emits, Open, Opened, Read, Send, Sleep, Steps
from app.client.errors import ApiError, ServerUnreachable, WaitTimeout
from app.client.eventstream import Message, MessageReader
from app.client.exchange import Server, exchange, json_of, raise_for_problem
from app.client.fields import route
from app.client.retry import A_RESTART, TRANSIENT_STATUS, Retry, jittered
from app.client.types import Job, has_ended

_POLL_SECONDS = 30.0  # below the minute after which proxies tend to give up
_PAUSE_SECONDS = 0.5
_SILENCE_SECONDS = 20.0  # the server says something every 15 s; a proxy that collects answers does not

_PROGRESS = ("status", "stage", "progress")  # what an event of that name brings


@dataclass(frozen=True, slots=True)
class Polled:
    """One look at a job: the job, or None if it is as it was, and the tag to ask with next time."""

    job: Job | None
    etag: str | None


def poll(server: Server, job_id: str, *, wait: float | None = None, etag: str | None = None) -> Steps[Polled]:
    """Look at a job; with `wait` the server answers when it differs from `etag`, or after that many seconds."""
    return (yield from _poll(server, job_id, wait, etag, server.retry))


def follow(server: Server, job_id: str, timeout: float | None = None) -> Emits[Job]:
    """Yield a job each time it has changed, from how it is now to its end, which is the last.

    Goes on when the server restarts. Raises `WaitTimeout` after `timeout` seconds; the job itself runs on.
    """
    return _Following(server, job_id, math.inf if timeout is None else server.clock() + timeout).run()


class _Following:
    """Looks at the job, listens until the stream breaks, and again; a stream that says nothing is not tried again."""

    def __init__(self, server: Server, job_id: str, deadline: float) -> None:
        self._server = server
        self._job_id = job_id
        self._deadline = deadline
        self._job: Job | None = None
        self._etag: str | None = None
        self._last_id: str | None = None

    def run(self) -> Emits[Job]:
        streaming = True
        while True:
            began = self._server.clock()
            polled = yield from self._look(wait=not streaming)
            self._etag = polled.etag
            yield from self._show(polled.job)
            if self._ended():
                return
            in_vain = polled.job is None or polled.etag is None
            if streaming:
                streaming = in_vain = yield from self._listen()
                if self._ended():
                    return
            if in_vain and self._server.clock() - began < _PAUSE_SECONDS:
                yield Sleep(jittered(2 * _PAUSE_SECONDS))  # a server that does not wait must not be hammered

    def _ended(self) -> bool:
        return self._job is not None and has_ended(self._job)

    def _left(self) -> float:
        """Return the seconds left; raises `WaitTimeout` where there are none."""
        left = self._deadline - self._server.clock()
        if left <= 0:
            raise WaitTimeout(f"job {self._job_id} has not ended in time; it goes on")
        return left

    def _show(self, job: Job | None) -> Emits[Job]:
        if job is not None and job != self._job:
            self._job = job
            yield Emit(job)

    def _look(self, *, wait: bool) -> Steps[Polled]:
        left = self._left()
        seconds = min(A_RESTART.seconds, left)
        # Without a tag there is nothing to wait for: the answer is the job as it is.
        longest = min(_POLL_SECONDS, seconds) if wait and self._etag is not None else None
        retry = Retry(A_RESTART.attempts, seconds, to_the_end=True)
        try:
            return (yield from _poll(self._server, self._job_id, longest, self._etag, retry))
        except (ServerUnreachable, ApiError) as error:
            transient = isinstance(error, ServerUnreachable) or error.status in TRANSIENT_STATUS
            if transient and left <= seconds:
                raise WaitTimeout(f"job {self._job_id} has not ended in time; {error}") from error
            raise

    def _listen(self) -> Generator[Effect | Emit[Job], Any, bool]:
        """Show what the stream tells until it ends, breaks or falls silent; returns whether to try it again."""
        headers: dict[str, str | bytes] = {"Accept": "text/event-stream"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id.encode()
        silence = min(_SILENCE_SECONDS, self._left())
        heard = False
        try:
            source: Opened = yield Open(
                Send("GET", route("jobs", self._job_id, "events"), {"headers": headers}, read_seconds=silence)
            )
            raise_for_problem(self._server, source.response)
            if source.response.status_code == httpx.codes.NO_CONTENT:  # it has ended
                return True
            if not source.response.headers.get("Content-Type", "").startswith("text/event-stream"):
                return False
            reader = MessageReader()
            while chunk := (yield Read(source)):
                heard = True
                for message in reader.feed(chunk):
                    self._last_id = message.last_id
                    self._etag = None
                    yield from self._show(self._told(message))
                    if self._ended():
                        return False
                self._left()
        except (httpx.RequestError, ApiError, json.JSONDecodeError):
            return heard  # the look that follows tells what is wrong, if it is more than the stream
        return heard

    def _told(self, message: Message) -> Job | None:
        if message.event == "status":
            return cast("Job", json.loads(message.data))
        if message.event == "progress" and self._job is not None:
            news: Mapping[str, Any] = json.loads(message.data)
            return cast("Job", {**self._job, **{key: news[key] for key in _PROGRESS if news.get(key) is not None}})
        return None


def _poll(server: Server, job_id: str, wait: float | None, etag: str | None, retry: Retry) -> Steps[Polled]:
    request = Send(
        "GET",
        route("jobs", job_id),
        {
            "params": {} if wait is None else {"wait": f"{wait:.3f}"},
            "headers": {} if etag is None else {"If-None-Match": etag},
        },
        read_seconds=server.timeout + (wait or 0.0),
    )
    answer = yield from exchange(server, request, retry)
    if answer.status_code == httpx.codes.NOT_MODIFIED:
        return Polled(None, etag)
    return Polled(cast("Job", json_of(answer)), answer.headers.get("ETag"))
