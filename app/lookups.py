"""Look-ups of host names, which take no more threads and no more time than they may."""

import socket
import threading
import time
from collections import Counter
from queue import Empty, SimpleQueue

_LOOKUPS = 32  # at once
_LOOKUPS_EACH = 8  # of those, for one tenant


class NoRoom(Exception):
    """This process has no room for the request just now: nothing was asked, and nobody out there is to blame."""


class Lookups:
    """Asks the system's resolver for addresses: only so many names at once, and fewer of one tenant. Thread-safe.

    The resolver may take half a minute longer than anybody waits. Names that nobody answers for hold up only the tenant
    that has named them.
    """

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()  # by tenant
        self._changed = threading.Condition()

    def look_up(self, host: str, timeout_seconds: float, *, tenant: str) -> list[str]:
        """Return the addresses of a host name; raises OSError, `TimeoutError` included.

        Raises `NoRoom` when half of the time has gone and there is no room: the rest is the resolver's.
        """
        until = time.monotonic() + timeout_seconds
        found: SimpleQueue[list[str] | Exception] = SimpleQueue()
        thread = threading.Thread(target=self._look_up, args=(host, tenant, found), name="look-up", daemon=True)
        self._begin(tenant, timeout_seconds / 2)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # there are too many threads
            self._end(tenant)
            raise NoRoom("no thread can be started to look up a host name") from error
        try:
            answer = found.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            raise TimeoutError from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _begin(self, tenant: str, timeout_seconds: float) -> None:
        def room() -> bool:
            return self._under_way.total() < _LOOKUPS and self._under_way[tenant] < _LOOKUPS_EACH

        with self._changed:
            if not self._changed.wait_for(room, timeout_seconds):
                raise NoRoom("too many host names are being looked up")
            self._under_way[tenant] += 1

    def _end(self, tenant: str) -> None:
        with self._changed:
            self._under_way -= Counter((tenant,))  # forgets a tenant that has none left
            self._changed.notify_all()

    def _look_up(self, host: str, tenant: str, found: "SimpleQueue[list[str] | Exception]") -> None:
        try:
            found.put(_resolved(host))
        except Exception as error:  # noqa: BLE001  raised again in the thread that asked
            found.put(error if isinstance(error, OSError) else OSError(str(error)))
        finally:
            self._end(tenant)


def _resolved(host: str) -> list[str]:
    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))
