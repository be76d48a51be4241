"""What happened, in order: the log of job, GPU and queue changes that webhooks, streams and audits read from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from scheduler.errors import EventsExpired
from scheduler.policy import Policy
from scheduler.store import eventlog
from scheduler.store import schema as s
from scheduler.store.database import Database

_DAY = 86_400.0
_log = s.events.c
# The index of unnumbered events answers it, whatever the planner believes of their number.
_ONE_UNNUMBERED = select(_log.id).where(_log.position.is_(None)).order_by(_log.id).limit(1)
_FIRST = select(func.min(_log.position))
_LAST = select(func.max(_log.position))


@dataclass(frozen=True, slots=True)
class Event:
    """One change, named by `position`, which grows by one from event to event.

    `at` is seconds since 1970 by the database's clock and may step back a little between events. `subject` is the id of
    the job or GPU that changed, or `queue`; `actor` is who asked for it, where somebody did.
    """

    position: int
    at: float
    type: str
    subject: str
    tenant: str | None
    actor: str | None
    data: Mapping[str, Any]


class Events:
    """The readers' side of the log. Any number may read at once, each from where it left off.

    Each committed event gets its position once. A reader that goes on from the last position it has seen gets every
    later event, in order, and those of one job in the order of its changes.
    """

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database = database
        self._policy = policy

    def read(
        self, after: int = 0, limit: int = 100, subject: str | None = None, tenant: str | None = None
    ) -> list[Event]:
        """Return the first `limit` events past position `after`, of `subject` and `tenant` where given.

        0 is the oldest event that is kept. From any other position, raises `EventsExpired` if events past it are not.
        """
        self.number()
        query = select(s.events).where(_log.position > after).order_by(_log.position).limit(limit)
        if subject is not None:
            query = query.where(_log.subject == subject)
        if tenant is not None:
            query = query.where(_log.tenant == tenant)
        with self._database.read() as conn:
            found = [_event(row) for row in conn.execute(query)]
            if after > 0:  # looked at last: what is still there now was there when the events were read
                self._check_kept(conn, after)
        return found

    def latest(self, subject: str, limit: int) -> list[Event]:
        """Return the newest `limit` events of `subject`, the newest first."""
        self.number()
        query = select(s.events).where(_log.subject == subject, _log.position > 0)
        with self._database.read() as conn:
            return [_event(row) for row in conn.execute(query.order_by(_log.position.desc()).limit(limit))]

    def last(self) -> int:
        """Return the position of the newest event, 0 when there never was one."""
        self.number()
        with self._database.read() as conn:
            return conn.execute(_LAST).scalar() or 0

    def number(self) -> None:
        """Give what has been committed its positions. Every read does, and so does the pruner now and then."""
        with self._database.read() as conn:
            if conn.execute(_ONE_UNNUMBERED).first() is None:
                return
        # A full batch may have left some; after one that was not, there is only what came after the call.
        while True:
            with self._database.write() as conn:
                if eventlog.number(conn) < eventlog.AT_ONCE:
                    return

    def _check_kept(self, conn: Connection, after: int) -> None:
        first = conn.execute(_FIRST).scalar()
        if first is not None and first > after + 1:
            days = self._policy.retention_seconds / _DAY
            raise EventsExpired(f"events {after + 1} to {first - 1} are no longer kept, after {days:g} days", first)


def _event(row: Row[Any]) -> Event:
    return Event(row.position, row.at, row.type, row.subject, row.tenant, row.actor, row.data)
