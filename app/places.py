"""How many of something may be under way at once in a process, and how many of them may be one tenant's."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.door import Principal
from app.errors import RequestError


class Places:
    """Places for `what`, at most so many; where there are keys a tenant may hold half of them. For any thread."""

    def __init__(self, at_most: int, what: str) -> None:
        self._at_most = at_most
        self._what = what
        self._held: Counter[str] = Counter()  # by tenant
        self._lock = threading.Lock()

    @contextmanager
    def place(self, caller: Principal) -> Iterator[None]:
        """Hold a place; raises `RequestError` 503 when all are taken, or all that the caller's tenant may have."""
        self._take(caller)
        try:
            yield
        finally:
            with self._lock:
                self._held[caller.tenant] -= 1
                self._held += Counter()  # forgets the tenants that hold none

    def _take(self, caller: Principal) -> None:
        each = self._at_most if caller.key_id is None else max(1, self._at_most // 2)
        with self._lock:
            if self._held.total() >= self._at_most:
                raise self._taken(self._at_most, "")
            if self._held[caller.tenant] >= each:
                raise self._taken(each, " of one tenant")
            self._held[caller.tenant] += 1

    def _taken(self, limit: int, whose: str) -> RequestError:
        return RequestError(
            503,
            "too_many_uploads",
            f"this server takes in at most {limit} {self._what}{whose} at once",
            limit=limit,
            headers={"Retry-After": "1"},
        )
