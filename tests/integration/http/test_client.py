"""Both clients against the real application, on a real socket."""

import asyncio
import base64
import hashlib
import inspect
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import groupby
from typing import Any

import pytest
import uvicorn

from app.client import AccessDenied, ApiError, AsyncClient, Client, Job
from scheduler.keys import Scope
from scheduler.records import Progress
from scheduler.states import Stage
from tests.support import http
from tests.support.http import VIDEO, Site, picture, until

Call = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def serving(site: Site, port: int = 0, asked: list[str] | None = None) -> AsyncIterator[int]:
    """Serve the site's application on a port of this machine, and note in `asked` what is asked."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if asked is not None:
            asked.append(scope["path"] + scope["query_string"].decode())
        await site.app(scope, receive, send)

    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen()
        config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([sock]))
        try:
            await until(lambda: server.started)
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            with suppress(asyncio.CancelledError):  # uvicorn cancels itself where streams stay open
                await task


@asynccontextmanager
async def connected(kind: str, port: int, **options: Any) -> AsyncIterator[Call]:
    """Give a function that calls a method of a client by its name; iterators come as lists."""
    url = f"http://127.0.0.1:{port}"
    if kind == "sync":
        with Client(url, **options) as client:

            def call(name: str, *args: Any, **kwargs: Any) -> Any:
                result = getattr(client, name)(*args, **kwargs)
                return list(result) if inspect.isgenerator(result) else result

            yield lambda name, *args, **kwargs: asyncio.to_thread(call, name, *args, **kwargs)
    else:
        async with AsyncClient(url, **options) as client:

            async def call_async(name: str, *args: Any, **kwargs: Any) -> Any:
                result = getattr(client, name)(*args, **kwargs)
                return [value async for value in result] if inspect.isasyncgen(result) else await result

            yield call_async


async def until_refused(call: Call) -> None:
    """List jobs until that raises; that no key has been made is remembered for a second."""
    async with asyncio.timeout(10):
        while True:
            await call("list")


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def asked() -> list[str]:
    """The path and query of each request."""
    return []


@pytest.fixture
async def port(site: Site, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(http, "SHA256", hashlib.sha256(VIDEO).hexdigest())
    async with serving(site, asked=asked) as number:
        yield number


@pytest.fixture
async def call(kind: str, port: int) -> AsyncIterator[Call]:
    async with connected(kind, port) as made:
        yield made


async def test_a_job_from_submit_to_download(call, site, asked, tmp_path):
    image = tmp_path / "sea.png"
    image.write_bytes(picture())
    job = await call("submit", image, "waves", num_frames=16, seed=7, metadata={"a": "b"})
    assert (job["status"], job["params"]["seed"], job["metadata"]) == ("queued", 7, {"a": "b"})
    seen: list[Job] = []
    waiting = asyncio.ensure_future(call("wait", job["id"], seen.append))
    await until(lambda: site.hub.waiting)
    lease = site.gpu.must_claim()
    await until(lambda: seen[-1]["status"] == "running")
    site.scheduler.leases.report(lease, Progress(Stage.DENOISING, 5, 10, 0.5))
    await until(lambda: seen[-1]["stage"] == "denoising")
    site.finish(lease)
    done = await waiting
    assert done == seen[-1]
    assert done["status"] == "succeeded"
    assert [status for status, _ in groupby(seen, lambda one: one["status"])] == ["queued", "running", "succeeded"]
    path = f"/v1/jobs/{job['id']}"
    assert asked == ["/v1/jobs", path, f"{path}/events"]  # no polls
    for what, content in (("video", VIDEO), ("thumbnail", picture("JPEG")), ("preview", picture("WEBP"))):
        assert (await call("download", job["id"], tmp_path / what, what))["id"] == job["id"]
        assert (tmp_path / what).read_bytes() == content


async def test_a_restart_of_the_server_is_survived(kind, site):
    async with serving(site) as port:
        pass
    async with connected(kind, port) as call:
        async with serving(site, port):
            job = await call("submit", picture(), "waves")
            waiting = asyncio.ensure_future(call("wait", job["id"], None, 60.0))
            await until(lambda: site.hub.waiting)
        site.finish(site.gpu.must_claim())
        async with serving(site, port):
            assert (await waiting)["status"] == "succeeded"


async def test_one_key_is_one_job_however_it_is_sent(call):
    first = await call("submit", picture(), "waves", idempotency_key="one", seed=1)
    again = await call("submit", picture(), "waves", idempotency_key="one", seed=1)
    uri = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
    other = await call("submit", uri, "waves", seed=1)
    assert first["id"] == again["id"] != other["id"]


async def test_lists_are_filtered_and_read_to_the_end(call):
    ids = [(await call("submit", picture(), "waves"))["id"] for _ in range(3)]
    await call("cancel", ids[0])
    page = await call("list", limit=2)
    assert [job["id"] for job in page["data"]] == [ids[2], ids[1]]
    assert [job["id"] for job in (await call("list", limit=2, cursor=page["next_cursor"]))["data"]] == [ids[0]]
    assert [job["id"] for job in await call("iterate", status=["cancelled", "failed"])] == [ids[0]]
    assert [job["id"] for job in await call("iterate", created_after="2020-01-01T00:00:00Z")] == ids[::-1]
    assert await call("iterate", created_before="2020-01-01T00:00:00Z") == []


async def test_a_cancelled_job_is_retried_and_deleted(call):
    job = await call("submit", picture(), "waves", seed=3)
    await call("cancel", job["id"])
    repeated = await call("retry", job["id"])
    assert (repeated["retry_of"], repeated["params"]) == (job["id"], job["params"])
    await call("delete", job["id"])
    with pytest.raises(ApiError) as gone:
        await call("get", job["id"])
    assert (gone.value.status, gone.value.code) == (404, "not_found")


async def test_what_there_is_to_ask(call, site):
    assert (await call("estimate", num_frames=16))["fits"] is True
    (model,) = (await call("models"))["data"]
    assert (await call("model", model["id"]))["id"] == model["id"]
    account = await call("account")
    assert (account["tenant"], account["key"]) == ("default", None)
    assert (await call("gpus"))["data"][0]["id"] == site.gpu.info.id
    assert (await call("queue"))["paused"] is False
    assert (await call("webhooks"))["data"] == []
    assert (await call("deliveries"))["data"] == []
    before = await call("webhook_secret")
    assert (await call("rotate_webhook_secret"))["secret"] != before["secret"]
    assert await call("ready") is True
    await call("submit", picture(), "waves")
    assert "job.queued" in [event["type"] for event in await call("events")]


async def test_keys_and_what_they_may_do(kind, port, site):
    _, secret = site.scheduler.keys.create("reader", scopes=frozenset({Scope.READ}), actor="test")
    async with connected(kind, port, api_key="") as call:
        with pytest.raises(AccessDenied, match="set REELQ_API_KEY"):
            await until_refused(call)
    async with connected(kind, port, api_key=secret) as call:
        assert (await call("list"))["data"] == []
        assert (await call("account"))["key"]["name"] == "reader"
        with pytest.raises(AccessDenied) as denied:
            await call("submit", picture(), "waves")
        assert (denied.value.status, denied.value.code) == (403, "insufficient_scope")
        assert secret not in str(denied.value)
