"""Topics that wait to be sent to other machines: each once, soon, and never very many.

A topic is a hint, so where too many wait they give way to one that says that anything may have changed.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_MAX_TOPICS = 1000
_MAX_PAYLOAD_BYTES = 7999  # PostgreSQL refuses 8000 (NOTIFY_PAYLOAD_MAX_LENGTH in async.c)


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel between machines: its name in SQL, and how it is used.

    `anything` is the topic that stands for all others. After topics were sent, the next gather for `gather_seconds`.
    """

    name: str
    anything: str
    gather_seconds: float


class Outbox:
    """The waiting topics of each channel. Its user keeps threads apart; times are monotonic seconds."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = channels
        self._waiting: dict[str, set[str]] = {}
        self._not_before = dict.fromkeys(channels, -math.inf)

    def put(self, channel: str, topic: str) -> bool:
        """Add a topic; returns whether it is the first to wait on its channel."""
        waiting = self._waiting.setdefault(channel, set())
        first, anything = not waiting, self._channels[channel].anything
        if topic == anything or len(waiting) >= _MAX_TOPICS:
            waiting.clear()
            waiting.add(anything)
        elif anything not in waiting:
            waiting.add(topic)
        return first

    def due_at(self) -> float | None:
        """Return when something is to be sent; None while nothing waits."""
        return min((self._not_before[channel] for channel in self._waiting), default=None)

    def take(self, now: float) -> dict[str, set[str]]:
        """Return the waiting topics of each channel and forget them: one message takes what is due and what is not."""
        taken, self._waiting = self._waiting, {}
        for channel in taken:
            self._not_before[channel] = now + self._channels[channel].gather_seconds
        return taken


def pack(origin: str, topics: Iterable[str]) -> Iterator[str]:
    """Yield payloads that NOTIFY takes: in each the origin, then as many topics as fit, one a line."""
    lines, size_bytes = [origin], len(origin.encode())
    for topic in topics:
        more_bytes = 1 + len(topic.encode())
        if size_bytes + more_bytes > _MAX_PAYLOAD_BYTES and len(lines) > 1:
            yield "\n".join(lines)
            lines, size_bytes = [origin], len(origin.encode())
        lines.append(topic)
        size_bytes += more_bytes
    if len(lines) > 1:
        yield "\n".join(lines)


def unpack(payload: str) -> tuple[str, list[str]]:
    """Return the origin and the topics of a payload."""
    origin, *topics = payload.split("\n")
    return origin, topics
