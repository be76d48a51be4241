"""The client's logic without its input and output.

What takes more than one exchange (trying again, following a job, a download) is a generator: it yields what to do next
and is sent what came of it, like httpx's own authentication flows. `Client` and `AsyncClient` differ in how they do it.
"""

from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import httpx

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; its outcome is the httpx.Response, its body read, or an httpx.RequestError.

    `options` are httpx's. `read_seconds`, where given, replaces the client's timeout of each read.
    """

    method: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    read_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """Send a request, follow redirects, and leave the body of a success to be read: the outcome is an `Opened`.

    It is closed before the next one is opened, and at the end.
    """

    request: Send


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer whose body is still to come."""

    response: httpx.Response
    chunks: Iterator[bytes] | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Read:
    """Read on; the outcome is bytes, and none at the end."""

    source: Opened


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait that long; there is no outcome."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit(Generic[T]):
    """Hand a value to whoever iterates."""

    value: T


Effect: TypeAlias = Send | Open | Read | Sleep
Steps = Generator[Effect, Any, T]  # ends with a value of type T
Emits = Generator[Effect | Emit[T], Any, None]  # hands out values of type T
