"""One HTTP exchange with the server: errors become types, and what may be repeated is repeated."""

import ipaddress
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from app.client.errors import ApiError, ServerUnreachable
from app.client.retry import ONCE, Retry, wait_before_retry

T = TypeVar("T")
_BODY_EXCERPT_CHARS = 200
_CONNECT_SECONDS = 5.0


class Transport:
    """An httpx client bound to one server; the arguments are `Client`'s."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        timeout: float,
        transport: httpx.BaseTransport | None,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self.url = base_url.rstrip("/")
        self.timeout = timeout
        self.sleep = sleep
        self.clock = clock
        self._http = httpx.Client(
            base_url=_checked(self.url),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=timeout,
            transport=transport,
            trust_env=not _is_loopback(self.url),  # a proxy from the environment cannot reach this machine
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self, method: str, path: str, *, retry: Retry = ONCE, read_seconds: float | None = None, **request: Any
    ) -> httpx.Response:
        """Send one request and return its answer, 2xx or 304.

        `read_seconds` replaces the timeout of reading. Raises `ApiError` or `ServerUnreachable`.
        """
        timeout = httpx.Timeout(
            self.timeout, connect=min(self.timeout, _CONNECT_SECONDS), read=read_seconds or self.timeout
        )

        def once() -> httpx.Response:
            answer = self._http.request(method, path, timeout=timeout, **request)
            raise_for_problem(answer)
            return answer

        return self.attempt(once, retry)

    def stream(self, path: str, sink: Callable[[bytes], object]) -> None:
        """GET `path` once, following redirects (to a blob store, say), and hand its bytes to `sink`."""
        with self._http.stream("GET", path, follow_redirects=True) as answer:
            if not answer.is_success:
                answer.read()
                raise_for_problem(answer)
            for chunk in answer.iter_bytes():
                sink(chunk)

    def attempt(self, once: Callable[[], T], retry: Retry) -> T:
        """Call `once` until it succeeds or `retry` is used up; the last error is raised."""
        delays, deadline = retry.delays(), self.clock() + retry.seconds
        while True:
            try:
                return once()
            except (httpx.TransportError, ApiError) as error:
                delay = next(delays, None)
                pause = None if delay is None else wait_before_retry(error, delay)
                if pause is None or self.clock() + pause > deadline:
                    raise self._typed(error) from error
            self.sleep(pause)

    def _typed(self, error: Exception) -> Exception:
        if not isinstance(error, httpx.TransportError):
            return error
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            reason = "no answer in time"
        return ServerUnreachable(self.url, reason)


def raise_for_problem(answer: httpx.Response) -> None:
    """Raise `ApiError` unless `answer` is a success or 304."""
    if answer.is_success or answer.status_code == httpx.codes.NOT_MODIFIED:
        return
    status = answer.status_code
    try:
        document = answer.json()
    except ValueError:
        document = None
    problem = document if isinstance(document, dict) else {}
    excerpt = " ".join(answer.text[:_BODY_EXCERPT_CHARS].split()) if not problem else ""
    detail = problem.get("detail") or problem.get("title") or excerpt or answer.reason_phrase
    raise ApiError(
        status,
        str(problem.get("code") or f"http_{status}"),
        str(detail),
        problem=problem or None,
        retry_after_seconds=_retry_after(answer.headers.get("Retry-After")),
    )


def json_of(answer: httpx.Response) -> Any:
    """Return the JSON of `answer`; raises `ApiError` where it is none: another server answers there."""
    try:
        return answer.json()
    except ValueError as error:
        detail = f"{answer.request.url} did not answer with JSON; is it a reelq server?"
        raise ApiError(answer.status_code, "not_json", detail) from error


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds a number or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _checked(url: str) -> str:
    """Return `url`; raises ValueError unless it is http(s)://host."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise ValueError(f"{url!r} is not the URL of a server; it looks like http://127.0.0.1:8000")
    return url


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
