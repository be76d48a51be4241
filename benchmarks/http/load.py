"""The load generator, a process of its own: raw connections, whole requests, and no more of HTTP than answers need.

    python -m benchmarks.http.load calls    each connection calls, and calls again when the answer is there
    python -m benchmarks.http.load waits    each connection asks once, or again and again, for what comes later

The first line of its input is a JSON object, the fields of `Calls` or `Waits`; requests are in base64. `waits` prints
`ready` once all have asked (and, of streams, heard their first event), and ends at the next line of its input. Its last
line of output is a JSON object. Times are seconds of the system's monotonic clock, the same for all processes.
"""

import asyncio
import base64
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length: "
_EVENT = b"event: "
_LIMIT_SECONDS = 60.0  # for the last answers
_CONNECTING = 50  # at once: a listening socket has room for no more than a hundred or so
_BODILESS = (b"204", b"304")


class Answers:
    """Cuts what a connection receives into answers; knows bodies of a stated length, and none at all."""

    def __init__(self) -> None:
        self._kept = b""
        self._end = 0

    def feed(self, data: bytes) -> bytes | None:
        """Return the status of an answer once it is complete, e.g. b"200"; raises ValueError for other bodies."""
        data = self._kept + data
        if not self._end:
            head_end = data.find(_HEAD_END)
            if head_end < 0:
                self._kept = data
                return None
            self._end = head_end + 4 + _length(data[: head_end + 2])
        if len(data) < self._end:
            self._kept = data
            return None
        self._kept, self._end = data[self._end :], 0
        return data[9:12]


def _length(head: bytes) -> int:
    at = head.find(_LENGTH)
    if at < 0:
        if head[9:12] in _BODILESS:
            return 0
        raise ValueError(f"an answer without a length: {head!r}")
    return 0 if head[9:12] == b"304" else int(head[at + len(_LENGTH) : head.index(b"\r", at)])


@dataclass
class Calls:
    """A closed loop: `connections` callers share `requests` and expect `status`; measured are `seconds`."""

    port: int
    requests: list[bytes]
    status: int
    connections: int
    seconds: float
    warm_up_seconds: float
    taken: list[tuple[float, float]] = field(default_factory=list)  # when an answer came, and after how long
    sent: int = 0
    until: float = 0.0

    def next_request(self) -> bytes:
        """Return what is sent next."""
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]

    async def run(self) -> dict[str, Any]:
        """Call, and return the rate and all latencies in seconds."""
        loop = asyncio.get_running_loop()
        began = time.monotonic() + self.warm_up_seconds
        self.until = began + self.seconds
        ends = [loop.create_future() for _ in range(self.connections)]
        for end in ends:
            await loop.create_connection(lambda end=end: _Caller(self, end), "127.0.0.1", self.port)  # type: ignore[misc]
        async with asyncio.timeout(self.warm_up_seconds + self.seconds + _LIMIT_SECONDS):
            await asyncio.gather(*ends)
        latencies = sorted(took for at, took in self.taken if began <= at <= self.until)
        return {
            "per_second": len(latencies) / self.seconds,
            "latencies": latencies,
            "answers": len(self.taken),
            "cpu_seconds": _cpu_seconds(),
        }


class _Caller(asyncio.Protocol):
    def __init__(self, calls: Calls, end: asyncio.Future[None]) -> None:
        self._calls = calls
        self._end = end
        self._answers = Answers()
        self._expected = str(calls.status).encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        self._began = time.monotonic()
        self._transport.write(self._calls.next_request())

    def data_received(self, data: bytes) -> None:
        status = self._answers.feed(data)
        if status is None:
            return
        now = time.monotonic()
        if status != self._expected:
            self._end.set_exception(RuntimeError(f"an answer was not {self._expected!r}: {data[:1000]!r}"))
            self._transport.close()
            return
        self._calls.taken.append((now, now - self._began))
        if now < self._calls.until:
            self._send()
        else:
            self._end.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._end.done():
            self._end.set_exception(exc or ConnectionError("the server has closed the connection"))


@dataclass
class Waits:
    """One connection for each of `requests`; `again`: asks anew after each answer. `stream`: server-sent events."""

    port: int
    requests: list[bytes]
    stream: bool
    again: bool

    async def run(self) -> dict[str, Any]:
        """Wait until told to end; return the times at which something arrived, for each connection."""
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        room = asyncio.Semaphore(_CONNECTING)
        waiters = [_Stream(self, one) if self.stream else _Poll(self, one) for one in self.requests]

        async def connect(waiter: _Waiter) -> None:
            async with room:
                await loop.create_connection(lambda: waiter, "127.0.0.1", self.port)
                await waiter.asked.wait()

        await asyncio.gather(*(connect(each) for each in waiters))
        for each in waiters:
            each.arrivals.clear()
        print("ready", flush=True)
        await lines.readline()
        result = {
            "arrivals": [each.arrivals for each in waiters],
            "problems": [problem for each in waiters for problem in each.problems][:5],
            "cpu_seconds": _cpu_seconds(),
        }
        for each in waiters:
            each.close()
        return result


class _Waiter(asyncio.Protocol):
    def __init__(self, waits: Waits, request: bytes) -> None:
        self._waits = waits
        self._request = request
        self.asked = asyncio.Event()
        self.arrivals: list[float] = []
        self.problems: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]
        transport.write(self._request)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._transport.close()


class _Poll(_Waiter):
    def __init__(self, waits: Waits, request: bytes) -> None:
        super().__init__(waits, request)
        self._answers = Answers()
        self.asked.set()  # nothing comes back that would tell

    def data_received(self, data: bytes) -> None:
        status = self._answers.feed(data)
        if status is None:
            return
        self.arrivals.append(time.monotonic())
        if status != b"200":
            self.problems.append(data[:300].decode(errors="replace"))
        elif self._waits.again:
            self._transport.write(self._request)


class _Stream(_Waiter):
    def __init__(self, waits: Waits, request: bytes) -> None:
        super().__init__(waits, request)
        self._tail = b""
        self._head = True

    def data_received(self, data: bytes) -> None:
        if self._head:
            self._head = False
            if data[9:12] != b"200":
                self.problems.append(data[:300].decode(errors="replace"))
                self.asked.set()
        data = self._tail + data
        self._tail = data[-len(_EVENT) + 1 :]
        events = data.count(_EVENT)
        if events:
            self.asked.set()
            self.arrivals += [time.monotonic()] * events


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


_ROLES = {"calls": Calls, "waits": Waits}


def main(arguments: Sequence[str]) -> None:
    """Play the role that the command line names."""
    spec = json.loads(sys.stdin.readline())
    spec["requests"] = [base64.b64decode(one) for one in spec["requests"]]
    result = uvloop.run(_ROLES[arguments[0]](**spec).run())
    # Under PYTHONUNBUFFERED what a full pipe does not take of one `print` is lost.
    with open(sys.stdout.fileno(), "w", closefd=False) as out:
        out.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
