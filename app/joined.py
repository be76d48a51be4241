"""A transport that sends what is written within one turn of the event loop together."""

import asyncio
from typing import Any

_LARGE_BYTES = 64 * 1024


class JoinedWrites:
    """An `asyncio.Transport` whose small writes go out as one: uvicorn writes the head and the body of an answer apart.

    A poll's answer is then one packet and wakes its reader once. All else is the transport's own, and large writes are
    passed on at once, so that its limits hold.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def write(self, data: bytes) -> None:
        """Send `data` after what was written before, at the latest when the event loop turns."""
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= _LARGE_BYTES:
            self._send()

    def close(self) -> None:
        """Close the connection once all has been sent."""
        self._send()
        self._transport.close()

    def write_eof(self) -> None:
        """Close the sending side once all has been sent."""
        self._send()
        self._transport.write_eof()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send(self) -> None:
        if self._waiting:
            data, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
            self._transport.write(data)
