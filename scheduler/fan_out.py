"""Fanning out: what has happened becomes deliveries, one for each endpoint that is to be told of it.

The log of events is the source. Where it has been read to is part of the transaction that writes the deliveries, so
that each event is written down once, whatever process dies when.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from scheduler.events import Events
from scheduler.ids import new_id
from scheduler.records import JobError
from scheduler.states import JobStatus
from scheduler.store import webhooks as store
from scheduler.store.database import Database
from scheduler.tenants import OPERATOR
from scheduler.webhooks import EVENT_TYPES

ALERT_TYPES = ("alert.firing", "alert.resolved")  # what the operator's endpoint is told


@dataclass(frozen=True, slots=True)
class Told:
    """What an endpoint is told: the event, and its job. `status` is the one that the job had just got."""

    type: str
    at: float  # seconds since 1970 by the database's clock
    job_id: str
    status: JobStatus
    model: str
    metadata: Mapping[str, str]
    error: JobError | None
    has_video: bool
    has_preview: bool


@dataclass(frozen=True, slots=True)
class Operator:
    """Where alerts are told, and how: `payload` makes the text of the event of an alert (type, at, subject, data)."""

    url: str
    payload: Callable[[Row[Any]], str]


class FanOut:
    """Reads on in the log of events, and writes the deliveries that follow from it. Thread-safe."""

    def __init__(self, database: Database, events: Events) -> None:
        self._database = database
        self._events = events
        self._looked = 0  # up to here this process has found nothing that was still to be told

    def tell(self, payload: Callable[[Told], str], operator: Operator | None = None) -> int:
        """Write the deliveries of what has happened since the last time, by any process; returns how many.

        An event is told to its job's endpoint if the job's `webhook_events` name it, an alert to the `operator`. What
        has been deleted since is told to nobody: jobs, and events that are kept no longer.
        """
        last, made = self._events.last(), 0
        while True:
            with self._database.read() as conn:
                cursor = store.next_after(conn)
                after = max(cursor, self._looked)
                if after >= last:
                    return made
                until = min(last, after + store.AT_ONCE)
                found = store.any_news(conn, EVENT_TYPES, after, until) or (
                    operator is not None and bool(store.alerts(conn, ALERT_TYPES, after, until))
                )
            # Where no job has a webhook the cursor moves seldom, and nearly every look is without a write.
            if found or until - cursor >= store.AT_ONCE:
                made += self._write(after, until, payload, operator)
            self._looked = until

    def _write(self, after: int, until: int, payload: Callable[[Told], str], operator: Operator | None) -> int:
        """Write the deliveries of the events in (after, until], less those that another process has written by now."""
        with self._database.write() as conn:
            cursor = store.lock_cursor(conn)
            if cursor >= until:
                return 0
            news = store.news(conn, EVENT_TYPES, max(after, cursor), until)
            wanted = [row for row in news if row.type in (row.webhook_events or ())]
            now = self._database.now(conn)
            endpoints = {
                (tenant, url): store.endpoint(conn, tenant, url, now)
                for tenant, url in sorted({(row.tenant, row.webhook_url) for row in wanted})
            }
            made = [_delivery(row, endpoints[row.tenant, row.webhook_url], payload, now) for row in wanted]
            alerts = store.alerts(conn, ALERT_TYPES, max(after, cursor), until) if operator is not None else []
            if operator is not None and alerts:
                to = store.endpoint(conn, OPERATOR, operator.url, now)
                made += [_addressed(row, row.subject, OPERATOR, to, operator.payload(row), now) for row in alerts]
            if made:
                store.put(conn, made)
            store.move_cursor(conn, until)
        return len(made)


def _delivery(row: Row[Any], to: Row[Any], payload: Callable[[Told], str], now: float) -> dict[str, Any]:
    status = EVENT_TYPES[row.type]
    told = Told(
        type=row.type,
        at=row.at,
        job_id=row.job_id,
        status=status,
        model=row.model,
        metadata=row.metadata,
        error=JobError(row.error_code, row.error_message) if status is JobStatus.FAILED else None,
        has_video=status is JobStatus.SUCCEEDED and row.result is not None,
        has_preview=status is JobStatus.SUCCEEDED and row.preview_key is not None,
    )
    return _addressed(row, row.job_id, row.tenant, to, payload(told), now)


def _addressed(event: Row[Any], subject: str, tenant: str, to: Row[Any], payload: str, now: float) -> dict[str, Any]:
    return {
        "id": new_id("msg"),
        "endpoint_id": to.id,
        "tenant": tenant,
        "job_id": subject,
        "type": event.type,
        "payload": payload,
        "position": event.position,
        "created_at": now,
        "tries": 0,
        "next_at": now if to.disabled_at is None else None,
    }
