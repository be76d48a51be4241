"""What the two clients have in common: their arguments, and the walk through the steps of a call."""

import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

import httpx

from app.client.effects import Send
from app.client.endpoint import Endpoint
from app.client.exchange import Server
from app.client.retry import Retry

T = TypeVar("T")
EffectT = TypeVar("EffectT")
_CONNECT_SECONDS = 5.0


class Base:
    """What a client knows; the arguments are `Client`'s."""

    def __init__(
        self, endpoint: Endpoint, timeout: float, max_retries: int, max_retry_seconds: float, clock: Callable[[], float]
    ) -> None:
        retry = Retry(max_retries + 1, max_retry_seconds)
        self._server = Server(endpoint.url, endpoint.api_key is not None, timeout, retry, clock)

    @property
    def url(self) -> str:
        """The server's URL."""
        return self._server.url

    def _timeout(self, request: Send) -> httpx.Timeout:
        total = self._server.timeout
        return httpx.Timeout(total, connect=min(total, _CONNECT_SECONDS), read=request.read_seconds or total)


def http_options(endpoint: Endpoint) -> dict[str, Any]:
    """Return the options of the httpx client, the API key among them."""
    return {
        "base_url": endpoint.url,
        "headers": {"Authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {},
        # As many connections as the caller opens streams: a limit would let other calls wait for their end.
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
        "trust_env": not endpoint.is_loopback,
    }


class Walk(Generic[EffectT, T]):
    """The way through the steps of a call: `effect` is what to do next, None at the end; then there is a `result`."""

    result: T

    def __init__(self, steps: Generator[EffectT, Any, T]) -> None:
        self._steps = steps
        self.effect: EffectT | None = None
        self._go(lambda: steps.send(None))

    def tell(self, outcome: Any) -> None:
        """Go on with what came of `effect`; an httpx.RequestError is raised where it was yielded."""
        if isinstance(outcome, httpx.RequestError):
            self._go(lambda: self._steps.throw(outcome))
        else:
            self._go(lambda: self._steps.send(outcome))

    def close(self) -> None:
        """Let the steps tidy up, wherever they are."""
        self._steps.close()

    def _go(self, on: Callable[[], EffectT]) -> None:
        try:
            self.effect = on()
        except StopIteration as end:
            self.effect, self.result = None, end.value


def as_method(method: Callable[..., Any], described: Callable[..., Any], *, skip: int) -> None:
    """Make `method` look like a method that was written out: `described`'s name, docstring and parameters.

    `skip` is how many of its first parameters the client fills in.
    """
    functools.update_wrapper(method, described, assigned=("__name__", "__doc__"))
    signature = inspect.signature(described)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [itself, *list(signature.parameters.values())[skip:]]
    method.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
