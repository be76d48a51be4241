"""When a request is tried again, and how long to wait before."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from app.client.errors import ApiError

TRANSIENT_STATUS = frozenset({429, 502, 503})
_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Retry:
    """A bound on trying again: at most `attempts` tries, the last begun within `seconds`.

    With `to_the_end` a pause that would go beyond is cut short: the last try is made when `seconds` are over.
    """

    attempts: int = 4
    seconds: float = 30.0
    to_the_end: bool = False

    def delays(self) -> Iterator[float]:
        """Yield the wait after each failed try but the last, in seconds: doubling, with jitter."""
        delay = _FIRST_DELAY_SECONDS
        for _ in range(self.attempts - 1):
            yield jittered(delay)
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)


ONCE = Retry(attempts=1)
A_RESTART = Retry(attempts=60, seconds=120.0)  # long enough for a server to be restarted or upgraded


def jittered(seconds: float) -> float:
    """Return about `seconds`, lest all clients of a server that comes back arrive at once."""
    return random.uniform(seconds / 2, seconds)  # noqa: S311  not a secret


def wait_before_retry(error: Exception, delay: float) -> float | None:
    """Return how long to wait before trying again after `error`, at least `delay`; None where that cannot help."""
    if not isinstance(error, ApiError):
        return delay
    if error.status not in TRANSIENT_STATUS:
        return None
    return max(delay, error.retry_after_seconds or 0.0)
