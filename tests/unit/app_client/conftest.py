"""Both clients, whose server is a function and whose time passes only when they sleep."""

import asyncio
import hashlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import pytest

from app.client import AsyncClient, Client

URL = "http://reelq.test:8000"
VIDEO = b"not really an mp4" * 1000


class FakeTime:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def clock(self) -> float:
        return self.now


class Server:
    """Answers requests from a script: responses, exceptions to raise, or functions of the request; then `default`.

    Requests for a job's stream of events have a script of their own, after which there is no such thing.
    """

    def __init__(self, time: FakeTime) -> None:
        self.time = time
        self.script: list[Any] = []
        self.streams: list[Any] = []
        self.requests: list[httpx.Request] = []
        self.stream_requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self.default: Any = httpx.Response(500)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/v1/jobs/") and request.url.path.endswith("/events"):
            self.stream_requests.append(request)
            answer = self.streams.pop(0) if self.streams else httpx.Response(404)
        else:
            self.requests.append(request)
            self.bodies.append(request.read())
            answer = self.script.pop(0) if self.script else self.default
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in parts; one that is an exception breaks it, one that is a function is called."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, BaseException):
                raise part
            if callable(part):
                part()
            else:
                yield part

    async def __aiter__(self):
        for part in self:
            yield part

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class Awaited:
    """An `AsyncClient` that is used like a `Client`: its coroutines and iterators run on a loop of their own."""

    def __init__(self, runner: asyncio.Runner, client: AsyncClient) -> None:
        self._runner = runner
        self._client = client
        self._loops: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return partial(self._call, found) if inspect.ismethod(found) else found

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        for loop in self._loops:
            loop.close()
        self._runner.run(self._client.close())

    def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        if inspect.iscoroutine(result):
            return self._runner.run(result)
        self._loops.append(self._loop(result))
        return self._loops[-1]

    def _loop(self, values: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(values, self)

        try:
            while (value := self._runner.run(following())) is not self:
                yield value
        finally:
            self._runner.run(values.aclose())


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def server(fake_time: FakeTime) -> Server:
    return Server(fake_time)


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, server: Server, fake_time: FakeTime) -> Iterator[Callable[..., Any]]:
    """Make a client of a URL, of each kind in turn; keyword arguments are the client's."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())

        def make(url: str | None = URL, **options: Any) -> Any:
            options = {"transport": httpx.MockTransport(server), "clock": fake_time.clock, **options}
            if request.param == "sync":
                return stack.enter_context(Client(url, sleep=fake_time.sleep, **options))
            return stack.enter_context(Awaited(runner, AsyncClient(url, sleep=fake_time.sleep_async, **options)))

        yield make


@pytest.fixture
def client(connect: Callable[..., Any]) -> Any:
    return connect()


@pytest.fixture
def make_job() -> Callable[..., dict[str, Any]]:
    def make(status: str = "queued", **changes: Any) -> dict[str, Any]:
        video = {"url": "/v1/jobs/job_1/video", "sha256": hashlib.sha256(VIDEO).hexdigest(), "bytes": len(VIDEO)}
        return {"id": "job_1", "status": status, "video": video if status == "succeeded" else None, **changes}

    return make


@pytest.fixture
def make_body() -> type[Body]:
    return Body


@pytest.fixture
def video() -> bytes:
    return VIDEO
