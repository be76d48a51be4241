"""The client for programs on asyncio."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, closing
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


def _call(described: Callable[P, Call[T]]) -> "Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]":
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(perform(self._server, described(*args, **kwargs)))

    as_method(method, described, skip=0)
    return method


def _steps(
    described: Callable[Concatenate[Server, P], Steps[T]],
) -> "Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]":
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(described(self._server, *args, **kwargs))

    as_method(method, described, skip=1)
    return method


def _emits(
    described: Callable[Concatenate[Server, P], Emits[T]],
) -> "Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]]":
    def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self._iterate(described(self._server, *args, **kwargs))

    as_method(method, described, skip=1)
    return method


class AsyncClient(Base):
    """A connection to one server, as `Client` is one: the same arguments and methods, awaited or looped over.

    For any number of tasks at once, on one event loop. Files are read and written on the event loop, piece by piece.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 3,
        max_retry_seconds: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        endpoint = Endpoint.of(base_url, api_key)
        super().__init__(endpoint, timeout, max_retries, max_retry_seconds, clock)
        self._http = httpx.AsyncClient(transport=transport, **http_options(endpoint))
        self._sleep = sleep

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def wait(
        self,
        job_id: str,
        on_change: Callable[[Job], object] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  the same as Client's
    ) -> Job:
        """Follow a job to its end and return it; `on_change`, an ordinary function, gets every state seen.

        Goes on when the server restarts. Raises `WaitTimeout` after `timeout` seconds; the job itself runs on.
        """
        job: Job
        async with aclosing(self.stream(job_id, timeout)) as states:
            async for job in states:
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

    async def _run(self, steps: Steps[T]) -> T:
        with closing(Walk(steps)) as walk:
            async with AsyncExitStack() as opened:
                while walk.effect is not None:
                    walk.tell(await self._do(walk.effect, opened))
                return walk.result

    async def _iterate(self, steps: Emits[T]) -> AsyncGenerator[T, None]:
        with closing(Walk(steps)) as walk:
            async with AsyncExitStack() as opened:
                while walk.effect is not None:
                    if isinstance(walk.effect, Emit):
                        yield walk.effect.value
                        walk.tell(None)
                    else:
                        walk.tell(await self._do(walk.effect, opened))

    async def _do(self, effect: Effect, opened: AsyncExitStack) -> Any:
        """Return what came of `effect`; an answer that stays open is closed with `opened`."""
        try:
            match effect:
                case Sleep():
                    await self._sleep(effect.seconds)
                    return None
                case Send():
                    return await self._http.request(
                        effect.method, effect.path, timeout=self._timeout(effect), **effect.options
                    )
                case Open():
                    await opened.aclose()
                    return await self._open(effect.request, opened)
                case Read():
                    return await anext(cast("AsyncIterator[bytes]", effect.source.chunks), b"")
        except httpx.RequestError as error:
            return error

    async def _open(self, request: Send, opened: AsyncExitStack) -> Opened:
        sent = self._http.build_request(request.method, request.path, timeout=self._timeout(request), **request.options)
        answer = await self._http.send(sent, stream=True, follow_redirects=True)
        opened.push_async_callback(answer.aclose)
        if not answer.is_success:
            await answer.aread()
        return Opened(answer, answer.aiter_bytes())
