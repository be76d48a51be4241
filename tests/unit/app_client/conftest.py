"""A client whose server is a function and whose time passes only when it sleeps."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.client import Client

VIDEO = b"not really an mp4" * 1000


class FakeTime:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


class Server:
    """Answers requests from a script: responses, exceptions to raise, or functions of the request; then `default`."""

    def __init__(self, time: FakeTime) -> None:
        self.time = time
        self.script: list[Any] = []
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self.default: Any = httpx.Response(500)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(request.read())
        answer = self.script.pop(0) if self.script else self.default
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def server(fake_time: FakeTime) -> Server:
    return Server(fake_time)


@pytest.fixture
def client(server: Server, fake_time: FakeTime) -> Iterator[Client]:
    with Client(
        "http://reelq.test:8000", transport=httpx.MockTransport(server), sleep=fake_time.sleep, clock=fake_time.clock
    ) as made:
        yield made


@pytest.fixture
def make_job() -> Callable[..., dict[str, Any]]:
    def make(status: str = "queued", **changes: Any) -> dict[str, Any]:
        video = {"url": "/v1/jobs/job_1/video", "sha256": hashlib.sha256(VIDEO).hexdigest(), "bytes": len(VIDEO)}
        return {"id": "job_1", "status": status, "video": video if status == "succeeded" else None, **changes}

    return make


@pytest.fixture
def video() -> bytes:
    return VIDEO
