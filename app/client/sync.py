"""The client for ordinary programs."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import httpx

from app.client import calls, download, health, listing, submission, waiting
from app.client.base import Base, Walk, as_method, http_options
from app.client.effects import Effect, Emit, Emits, Open, Opened, Read, Send, Sleep, Steps
from app.client.endpoint import Endpoint
from app.client.exchange import Call, Server, perform
from app.client.types import Job

T = TypeVar("T")
P = ParamSpec("P")


def _call(described: Callable[P, Call[T]]) -> "Callable[Concatenate[Client, P], T]":
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(perform(self._server, described(*args, **kwargs)))

    as_method(method, described, skip=0)
    return method


def _steps(described: Callable[Concatenate[Server, P], Steps[T]]) -> "Callable[Concatenate[Client, P], T]":
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(described(self._server, *args, **kwargs))

    as_method(method, described, skip=1)
    return method


def _emits(described: Callable[Concatenate[Server, P], Emits[T]]) -> "Callable[Concatenate[Client, P], Iterator[T]]":
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._iterate(described(self._server, *args, **kwargs))

    as_method(method, described, skip=1)
    return method


class Client(Base):
    """A connection to one server.

    `base_url` and `api_key` come from REELQ_URL (else http://127.0.0.1:8000) and REELQ_API_KEY unless given. Every
    method raises `ServerUnreachable` or `ApiError`. Connection errors and 429, 502 and 503 are tried again, at most
    `max_retries` times within `max_retry_seconds` and as the server's Retry-After says, but only where saying it twice
    does nothing twice. Not for several threads at once. `timeout` is in seconds and bounds each read; `transport`,
    `sleep` and `clock` (monotonic) are there for tests. Raises ValueError if `base_url` is not http(s)://host.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 3,
        max_retry_seconds: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        endpoint = Endpoint.of(base_url, api_key)
        super().__init__(endpoint, timeout, max_retries, max_retry_seconds, clock)
        self._http = httpx.Client(transport=transport, **http_options(endpoint))
        self._sleep = sleep

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, job_id: str, on_change: Callable[[Job], object] | None = None, timeout: float | None = None) -> Job:
        """Follow a job to its end and return it; `on_change` gets every state seen, the last one included.

        Goes on when the server restarts. Raises `WaitTimeout` after `timeout` seconds; the job itself runs on.
        """
        job: Job
        for job in self.stream(job_id, timeout):
            if on_change is not None:
                on_change(job)
        return job

    submit = _steps(submission.submit)
    get = _call(calls.get)
    list = _call(calls.list_jobs)
    iterate = _emits(listing.iterate)
    poll = _steps(waiting.poll)
    stream = _emits(waiting.follow)
    cancel = _call(calls.cancel)
    cancel_many = _call(calls.cancel_many)
    retry = _steps(submission.retry)
    retry_many = _steps(submission.retry_many)
    delete = _steps(submission.delete)
    download = _steps(download.download)
    estimate = _call(calls.estimate)
    models = _call(calls.models)
    model = _call(calls.model)
    account = _call(calls.account)
    webhooks = _call(calls.webhooks)
    enable_webhook = _call(calls.enable_webhook)
    deliveries = _call(calls.deliveries)
    delivery = _call(calls.delivery)
    redeliver = _call(calls.redeliver)
    webhook_secret = _call(calls.webhook_secret)
    rotate_webhook_secret = _call(calls.rotate_webhook_secret)
    gpus = _call(calls.gpus)
    gpu = _call(calls.gpu)
    drain = _call(calls.drain)
    drain_many = _call(calls.drain_many)
    resume = _call(calls.resume)
    resume_many = _call(calls.resume_many)
    events = _emits(listing.events)
    costs = _call(calls.costs)
    alerts = _call(calls.alerts)
    alert_secret = _call(calls.alert_secret)
    rotate_alert_secret = _call(calls.rotate_alert_secret)
    advice = _call(calls.advice)
    capacity = _call(calls.capacity)
    queue = _call(calls.queue)
    pause_queue = _call(calls.pause_queue)
    resume_queue = _call(calls.resume_queue)
    prioritize = _call(calls.prioritize)
    preempt = _call(calls.preempt)
    hold_model = _call(calls.hold_model)
    release_model = _call(calls.release_model)
    ready = _steps(health.ready)

    def _run(self, steps: Steps[T]) -> T:
        with closing(Walk(steps)) as walk, ExitStack() as opened:
            while walk.effect is not None:
                walk.tell(self._do(walk.effect, opened))
            return walk.result

    def _iterate(self, steps: Emits[T]) -> Iterator[T]:
        with closing(Walk(steps)) as walk, ExitStack() as opened:
            while walk.effect is not None:
                if isinstance(walk.effect, Emit):
                    yield walk.effect.value
                    walk.tell(None)
                else:
                    walk.tell(self._do(walk.effect, opened))

    def _do(self, effect: Effect, opened: ExitStack) -> Any:
        """Return what came of `effect`; an answer that stays open is closed with `opened`."""
        try:
            match effect:
                case Sleep():
                    self._sleep(effect.seconds)
                    return None
                case Send():
                    return self._http.request(
                        effect.method, effect.path, timeout=self._timeout(effect), **effect.options
                    )
                case Open():
                    opened.close()
                    return self._open(effect.request, opened)
                case Read():
                    return next(cast("Iterator[bytes]", effect.source.chunks), b"")
        except httpx.RequestError as error:
            return error

    def _open(self, request: Send, opened: ExitStack) -> Opened:
        sent = self._http.build_request(request.method, request.path, timeout=self._timeout(request), **request.options)
        answer = self._http.send(sent, stream=True, follow_redirects=True)
        opened.callback(answer.close)
        if not answer.is_success:
            answer.read()
        return Opened(answer, answer.iter_bytes())
