"""Following a job: long polls that outlive a restart of the server."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httpx

from app.client.errors import ApiError, ServerUnreachable, WaitTimeout
from app.client.fields import route
from app.client.retry import A_RESTART, TRANSIENT_STATUS, Retry
from app.client.transport import Transport, json_of
from app.client.types import Job, has_ended

_POLL_SECONDS = 30.0  # below the minute after which proxies tend to give up
_SHORTEST_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Polled:
    """One look at a job: the job, or None if it is as it was, and the tag to ask with next time."""

    job: Job | None
    etag: str | None


def poll(transport: Transport, job_id: str, wait: float | None, etag: str | None, retry: Retry) -> Polled:
    """Look at a job; with `wait` the server answers when it differs from `etag`, or after that many seconds."""
    answer = transport.send(
        "GET",
        route("jobs", job_id),
        retry=retry,
        read_seconds=transport.timeout + (wait or 0.0),
        params={} if wait is None else {"wait": f"{wait:.3f}"},
        headers={} if etag is None else {"If-None-Match": etag},
    )
    if answer.status_code == httpx.codes.NOT_MODIFIED:
        return Polled(None, etag)
    return Polled(cast("Job", json_of(answer)), answer.headers.get("ETag"))


def follow(transport: Transport, job_id: str, on_change: Callable[[Job], None] | None, timeout: float | None) -> Job:
    """Return the job when it has ended; see `Client.wait`."""
    deadline = None if timeout is None else transport.clock() + timeout
    etag = None
    while True:
        left = None if deadline is None else deadline - transport.clock()
        if left is not None and left <= 0:
            raise WaitTimeout(f"job {job_id} has not ended in time; it goes on")
        began = transport.clock()
        polled = _poll_within(transport, job_id, etag, left)
        etag = polled.etag
        if polled.job is not None:
            if on_change is not None:
                on_change(polled.job)
            if has_ended(polled.job):
                return polled.job
        if (polled.job is None or etag is None) and transport.clock() - began < _SHORTEST_POLL_SECONDS:
            transport.sleep(_SHORTEST_POLL_SECONDS)  # a server that does not wait must not be hammered


def _poll_within(transport: Transport, job_id: str, etag: str | None, left: float | None) -> Polled:
    seconds = A_RESTART.seconds if left is None else min(A_RESTART.seconds, left)
    # Without a tag there is nothing to wait for: the answer is the job as it is.
    wait = None if etag is None else min(_POLL_SECONDS, seconds)
    try:
        return poll(transport, job_id, wait, etag, Retry(A_RESTART.attempts, seconds))
    except (ServerUnreachable, ApiError) as error:
        transient = isinstance(error, ServerUnreachable) or error.status in TRANSIENT_STATUS
        if transient and left is not None and left <= seconds:
            raise WaitTimeout(f"job {job_id} has not ended in time; {error}") from error
        raise
