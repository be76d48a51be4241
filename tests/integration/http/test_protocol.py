"""What a client can do before it is known: the size, time and number of what it sends, and of its connections."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from app import protocol
from app.problems import PROBLEM_JSON
from app.protocol import MAX_AHEAD, MAX_HEAD_BYTES, Protocol

GET = b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"
HELD = b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE, PIECE = 64, 2**20  # more than the sockets of both sides hold
SHORT = 0.05  # what is long enough for a limit that is to be reached


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(ConnectionError):  # a refused client may find out while it writes
            await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return the status, headers and body of the next answer."""
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:-2])}
            return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def problem(self) -> tuple[int, str]:
        """Return the status and code of a problem after which the connection ends."""
        status, headers, body = await self.answer()
        found = json.loads(body)
        assert (headers["content-type"], headers["connection"]) == (PROBLEM_JSON, "close")
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert (found["status"], found["request_id"]) == (status, headers["x-request-id"])
        assert found["type"] == f"urn:reelq:problem:{found['code']}"
        assert await self.rest() == b""
        return status, found["code"]

    async def rest(self) -> bytes:
        """Return all that comes until the server ends the connection."""
        parts = []
        async with asyncio.timeout(20):
            with suppress(ConnectionError):
                while part := await self.reader.read(65536):
                    parts.append(part)
        return b"".join(parts)


@dataclass
class Service:
    """uvicorn with our protocol and an application of four paths: /quick, /held until `go` is set, /body, /large."""

    port: int = 0
    connections: set[object] = field(default_factory=set)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    clients: list[Client] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    received: int = 0
    left: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = scope["headers"]
        if scope["path"] == "/held":
            await self.go.wait()
        more = scope["path"] == "/body"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left = True
                return
            self.received += len(message["body"])
            more = message["more_body"]
        if scope["path"] == "/large":
            length = str(LARGE * PIECE).encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
            for left in reversed(range(LARGE)):
                await send({"type": "http.response.body", "body": bytes(PIECE), "more_body": left > 0})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110  of the server, which sets no event
                await asyncio.sleep(0.005)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    config = uvicorn.Config(
        service,
        http=Protocol,
        host="127.0.0.1",
        port=0,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    await_start = server.startup
    started = asyncio.Event()

    async def startup(**arguments: object) -> None:
        await await_start(**arguments)
        started.set()

    server.startup = startup
    serving = asyncio.create_task(server._serve())  # without uvicorn's signal handlers
    await started.wait()
    service.port = server.servers[0].sockets[0].getsockname()[1]
    service.connections = server.server_state.connections
    yield service
    service.go.set()
    for client in service.clients:
        client.writer.close()
    server.should_exit = True
    await serving


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: " + b"v" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET /" + b"v" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MAX_HEAD_BYTES // 6) + b"\r\n",
        b"\r\n" * MAX_HEAD_BYTES,
    ],
    ids=["a value", "the URL", "many", "empty lines"],
)
@pytest.mark.parametrize("piece", [10_000, 1_000_000])
async def test_a_large_head_is_refused(service: Service, head: bytes, piece: int) -> None:
    client = await service.connect()
    for at in range(0, len(head), piece):
        await client.send(head[at : at + piece])
    assert await client.problem() == (431, "headers_too_large")
    assert not service.headers


async def test_an_endless_head_is_refused_while_it_is_still_sent(service: Service) -> None:
    client = await service.connect()
    await client.send(b"GET / HTTP/1.1\r\n")
    endless = asyncio.create_task(client.send((b"a: " + b"v" * 1000 + b"\r\n") * 20_000))
    status, _, body = await client.answer()
    assert (status, json.loads(body)["code"]) == (431, "headers_too_large")
    await endless


async def test_a_head_at_the_limit_is_served_and_a_body_beyond_it_does_not_count(service: Service) -> None:
    start, end = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\na: ", b"\r\n\r\n"
    head = start + b"v" * (MAX_HEAD_BYTES - len(start) - len(end)) + end
    client = await service.connect()
    for sent in (1, 2):
        await client.send(head + b"b" * 1_000_000)
        assert (await client.answer())[0] == 200
        assert service.received == sent * 1_000_000


async def test_a_large_head_right_behind_a_body_is_refused(service: Service) -> None:
    client = await service.connect()
    await client.send(b"POST /quick HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"b" * 999)
    assert (await client.answer())[0] == 200
    await client.send(b"b" + GET[:-2] + b"a: " + b"v" * 2 * MAX_HEAD_BYTES + b"\r\n\r\n")
    assert await client.problem() == (431, "headers_too_large")


async def test_trailers_count_as_headers_do(service: Service) -> None:
    client = await service.connect()
    await client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await service.until(lambda: service.received == 3)
    await client.send(b"0\r\n")
    await client.send((b"a: " + b"v" * 1000 + b"\r\n") * 1000)
    assert await client.problem() == (431, "headers_too_large")
    await service.until(lambda: service.left)


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET \xff HTTP/1.1\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["no request", "no header", "two lengths", "a bad URL", "no path", "TLS"],
)
async def test_what_is_not_http_is_a_problem(service: Service, request_: bytes) -> None:
    client = await service.connect()
    await client.send(request_)
    assert await client.problem() == (400, "malformed_request")


async def test_a_body_that_cannot_be_read_is_a_problem_and_its_request_ends(service: Service) -> None:
    client = await service.connect()
    await client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await service.until(lambda: service.received == 3)
    await client.send(b"nonsense\r\n")
    assert await client.problem() == (400, "malformed_request")
    await service.until(lambda: service.left)


async def test_nonsense_behind_an_unanswered_request_is_not_taken_for_its_answer(service: Service) -> None:
    client = await service.connect()
    await client.send(HELD + b"nonsense\r\n\r\n")
    assert await client.rest() == b""


async def test_an_upgrade_is_answered_as_any_request(service: Service) -> None:
    client = await service.connect()
    await client.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n"], ids=["nothing", "half", "a line"])
async def test_a_head_must_come_in_time(service: Service, start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", SHORT)
    client = await service.connect()
    await client.send(start)
    assert await client.rest() == b""


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n"], ids=["half", "a line"])
async def test_the_next_head_must_come_in_time_too(
    service: Service, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await service.connect()
    await client.send(GET)
    assert (await client.answer())[0] == 200
    monkeypatch.setattr(protocol, "HEAD_SECONDS", SHORT)
    await client.send(start)
    assert await client.rest() == b""


async def test_the_rest_of_an_answered_body_must_come_in_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "REST_SECONDS", SHORT)
    client = await service.connect()
    await client.send(b"POST /quick HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    assert (await client.answer())[0] == 200
    await client.send(b"b")
    assert await client.rest() == b""


async def test_answers_take_as_long_as_they_like(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 2 * SHORT)
    client = await service.connect()
    await client.send(HELD + b"\r\n" + GET[:5])  # some clients send a line too many; the next request may begin
    witness = await service.connect()
    await client.send(GET[5:9])
    assert await witness.rest() == b""  # it sent nothing, and its time was up later
    service.go.set()
    assert (await client.answer())[0] == 200
    await client.send(GET[9:])
    assert (await client.answer())[0] == 200


async def test_who_does_not_read_an_answer_is_left(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALL_SECONDS", SHORT)
    client = await service.connect()
    await client.send(GET.replace(b"/quick", b"/large"))
    await service.until(lambda: service.headers != [])
    await service.until(lambda: not service.connections)
    assert len(await client.rest()) < LARGE * PIECE


async def test_who_reads_gets_all_of_it(service: Service) -> None:
    client = await service.connect()
    await client.send(GET.replace(b"/quick", b"/large"))
    _, _, body = await client.answer()
    assert len(body) == LARGE * PIECE
    await client.send(GET)
    assert (await client.answer())[0] == 200


async def test_some_requests_may_be_sent_ahead(service: Service) -> None:
    client = await service.connect()
    await client.send(HELD + GET * MAX_AHEAD)
    service.go.set()
    for _ in range(1 + MAX_AHEAD):
        assert (await client.answer())[0] == 200


async def test_too_many_requests_ahead_end_the_connection(service: Service) -> None:
    client = await service.connect()
    await client.send(HELD + GET * (MAX_AHEAD + 1))
    assert await client.rest() == b""
    await service.until(lambda: not service.connections)


async def test_a_flood_of_connections_leaves_those_that_are_there(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "max_connections", lambda: 3)
    monkeypatch.setattr(Protocol, "_next_log", 0.0)
    monkeypatch.setattr(Protocol, "_turned_away", 0)
    first = [await service.connect() for _ in range(3)]
    await service.until(lambda: len(service.connections) == 3)
    with capture_logs() as logs:
        for _ in range(10):
            assert await (await service.connect()).rest() == b""
    assert [line["event"] for line in logs] == ["too many connections: new ones are closed"]
    for client in first:
        await client.send(GET)
        assert (await client.answer())[0] == 200
    first[0].writer.close()
    await service.until(lambda: len(service.connections) == 2)
    again = await service.connect()
    await again.send(GET)
    assert (await again.answer())[0] == 200


@pytest.mark.parametrize(("descriptors", "connections"), [(100, 25), (1024, 384), (524_288, 262_016)])
def test_connections_leave_descriptors_for_the_rest(
    descriptors: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol.resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert protocol.max_connections() == connections
