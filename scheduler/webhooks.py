"""Webhooks: callers are told what happens to their jobs, each event once or more, whatever process dies when.

`fan_out` writes a delivery for each event that an endpoint is to be told of. Whoever sends takes deliveries that are
due by pushing their time on, so one that dies while it sends only delays them, and a receiver may see the same delivery
twice.

An endpoint is a URL of a tenant. It is disabled when nothing could be delivered to it for days, or when it says that it
is gone: its deliveries then wait until somebody enables it. Each tenant has a secret, which signs what it is sent.
"""

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row

from scheduler import webhook_secrets
from scheduler.deliveries import Delivery, DeliveryStatus, Due, Endpoint, Try
from scheduler.errors import InvalidState, NotFound
from scheduler.policy import Policy
from scheduler.states import JobStatus
from scheduler.store import eventlog
from scheduler.store import schema as s
from scheduler.store import webhooks as store
from scheduler.store.database import Database
from scheduler.tenants import OPERATOR

EVENT_TYPES: Mapping[str, JobStatus] = {
    f"job.{status}": status
    for status in (JobStatus.RUNNING, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)
}
DEFAULT_EVENTS = tuple(type_ for type_, status in EVENT_TYPES.items() if status.ended)

# The waits after the first try, the second, and so on, as Standard Webhooks recommends; after the last try, none.
WAITS_SECONDS = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
_JITTER = 0.2  # of a wait, up or down
_LONGEST_WAIT_SECONDS = 86_400.0  # whatever the receiver asks for
_OWN_FAILURE_SECONDS = 86_400.0  # how long a delivery itself must have failed before it speaks for its endpoint
_ERROR_MAX_CHARS = 300


class Webhooks:
    """Deliveries, the endpoints that they go to, and the secrets that sign them.

    Thread-safe; a `tenant` of None stands for all of them.
    """

    def __init__(self, database: Database, policy: Policy, *, jitter: Callable[[], float] = random.random) -> None:
        self._database = database
        self._policy = policy
        self._jitter = jitter

    def claim_due(
        self, limit: int, lease_seconds: float, busy: Mapping[str, str] | None = None, each: int | None = None
    ) -> list[Due]:
        """Take up to `limit` deliveries that are due, of each endpoint at most one, of those in `busy` none.

        `busy` has the endpoints that are being sent to, with their tenants; no tenant gets more than `each`, those
        included. Endpoints that nothing has failed for come first.

        They are this caller's for `lease_seconds`, in which it calls `delivered` or `failed`; then they are due again.
        There may be more to take, unless none is returned.
        """
        busy = busy or {}
        each = limit if each is None else each
        with self._database.read() as conn:
            if not store.any_due(conn, self._database.now(conn), busy, each):
                return []
        with self._database.write() as conn:
            now = self._database.now(conn)
            taken = store.take_due(conn, now, now + lease_seconds, busy, each, limit)
            keys = {
                tenant: webhook_secrets.ensured(conn, tenant, now)
                for tenant in sorted({row.tenant for row, _ in taken})
            }
        return [_due(row, to, keys[row.tenant]) for row, to in taken]

    def delivered(self, delivery_id: str, seconds: float, status: int) -> None:
        """Record a try that has succeeded; it took `seconds`, and the answer was `status`."""
        with self._database.write() as conn:
            locked = store.lock_delivery(conn, delivery_id)
            if locked is None:
                return
            delivery, endpoint = locked
            now = self._database.now(conn)
            store.log_try(conn, delivery, at=now - seconds, seconds=seconds, status=status, error=None)
            store.change_delivery(conn, delivery_id, delivered_at=now, given_up_at=None, next_at=None)
            if endpoint.failing_since is not None:
                store.change_endpoint(conn, endpoint.id, failing_since=None)

    def failed(
        self,
        delivery_id: str,
        seconds: float,
        error: str,
        *,
        status: int | None = None,
        retry_after_seconds: float = 0.0,
        gone: bool = False,
    ) -> str | None:
        """Record a try that has failed; `status` is that of the answer, where there was one.

        The next one comes after the wait that its number has, or after `retry_after_seconds` if that is more, up to a
        day. An endpoint that is `gone`, or for which nothing has succeeded for days, is disabled: returns why.
        """
        with self._database.write() as conn:
            locked = store.lock_delivery(conn, delivery_id)
            if locked is None:
                return None
            delivery, endpoint = locked
            now = self._database.now(conn)
            error = error[:_ERROR_MAX_CHARS]
            number = store.log_try(conn, delivery, at=now - seconds, seconds=seconds, status=status, error=error)
            if delivery.delivered_at is None and delivery.given_up_at is None:
                self._reschedule(conn, delivery, endpoint, number, retry_after_seconds, now)
            since = endpoint.failing_since
            if since is None:
                since = now
                store.change_endpoint(conn, endpoint.id, failing_since=since)
            if endpoint.disabled_at is not None:
                return None
            if gone:
                reason = "the receiver answered that it is gone for good"
            elif (
                now - since >= self._policy.webhook_patience_seconds
                and now - delivery.created_at >= _OWN_FAILURE_SECONDS
            ):
                reason = f"nothing could be delivered since {_day(since)}; last: {error}"
            else:
                return None
            _disable(conn, endpoint, reason, now)
        return reason

    def _reschedule(
        self, conn: Connection, delivery: Row[Any], endpoint: Row[Any], number: int, asked_seconds: float, now: float
    ) -> None:
        if number > len(WAITS_SECONDS):
            store.change_delivery(conn, delivery.id, next_at=None, given_up_at=now)
            return
        wait = WAITS_SECONDS[number - 1] * (1.0 + _JITTER * (2.0 * self._jitter() - 1.0))
        wait = max(wait, min(asked_seconds, _LONGEST_WAIT_SECONDS))
        store.change_delivery(conn, delivery.id, next_at=now + wait if endpoint.disabled_at is None else None)

    def redeliver(self, delivery_id: str, tenant: str | None, actor: str) -> Delivery:
        """Have a delivery tried at once, whatever has become of it; if that fails, it goes on where it had got to.

        Raises `NotFound`, or `InvalidState` while its endpoint is disabled.
        """
        with self._database.write() as conn:
            locked = store.lock_delivery(conn, delivery_id)
            if locked is None or tenant not in (None, locked[0].tenant):
                raise NotFound(f"no delivery {delivery_id}")
            endpoint = locked[1]
            if endpoint.disabled_at is not None:
                raise InvalidState(f"endpoint {endpoint.id} is disabled: enable it first")
            now = self._database.now(conn)
            store.change_delivery(conn, delivery_id, next_at=now, delivered_at=None, given_up_at=None)
            data = {"delivery": delivery_id, "url": endpoint.url}
            eventlog.append(
                conn, "webhook.redelivered", endpoint.id, now, tenant=endpoint.tenant, actor=actor, data=data
            )
            return _found(conn, delivery_id, tenant)

    def enable(self, endpoint_id: str, tenant: str | None, actor: str) -> Endpoint:
        """Let an endpoint be told again, of all that waits for it too; raises `NotFound`.

        While it is enabled this changes nothing.
        """
        where = [s.webhook_endpoints.c.id == endpoint_id]
        if tenant is not None:
            where.append(s.webhook_endpoints.c.tenant == tenant)
        with self._database.write() as conn:
            found = store.lock_endpoints(conn, *where)
            if not found:
                raise NotFound(f"no webhook endpoint {endpoint_id}")
            if found[0].disabled_at is not None:
                now = self._database.now(conn)
                store.change_endpoint(conn, endpoint_id, failing_since=None, disabled_at=None, disabled_reason=None)
                store.release(conn, endpoint_id, now)
                data = {"url": found[0].url}
                eventlog.append(
                    conn, "webhook.enabled", endpoint_id, now, tenant=found[0].tenant, actor=actor, data=data
                )
            return _endpoint(store.lock_endpoints(conn, *where)[0])

    def endpoints(self, tenant: str | None = None, before_id: str | None = None, limit: int = 100) -> list[Endpoint]:
        """Return up to `limit` endpoints, newest first; ids sort by time, so an id is the cursor."""
        with self._database.read() as conn:
            return [_endpoint(row) for row in store.endpoints(conn, tenant, before_id, limit)]

    def deliveries(
        self,
        tenant: str | None = None,
        *,
        job_id: str | None = None,
        status: DeliveryStatus | None = None,
        before_id: str | None = None,
        limit: int = 100,
    ) -> list[Delivery]:
        """Return up to `limit` deliveries, newest first; ids sort by time, so an id is the cursor."""
        where = () if status is None else (_IN_STATUS[status],)
        with self._database.read() as conn:
            rows = store.deliveries(conn, *where, tenant=tenant, job_id=job_id, before_id=before_id, limit=limit)
        return [_read(row) for row in rows]

    def delivery(self, delivery_id: str, tenant: str | None = None) -> tuple[Delivery, list[Try]]:
        """Return a delivery and its tries, the first one first; raises `NotFound`."""
        with self._database.read() as conn:
            found = _found(conn, delivery_id, tenant)
            return found, [
                Try(row.number, row.at, row.seconds, row.status, row.error) for row in store.tries(conn, delivery_id)
            ]

    def secrets(self, tenant: str) -> tuple[str, ...]:
        """Return the secrets in force, the newest first: more than one for a day after it was replaced."""
        with self._database.read() as conn:
            known = webhook_secrets.known(conn, tenant, self._database.now(conn))
        if known:
            return known
        with self._database.write() as conn:
            return webhook_secrets.ensured(conn, tenant, self._database.now(conn))

    def rotate_secret(self, tenant: str, actor: str) -> str:
        """Replace the secret of a tenant, and return the new one; for a day, all that is sent is signed with both."""
        with self._database.write() as conn:
            return webhook_secrets.rotate(conn, tenant, self._database.now(conn), actor)


_columns = s.webhook_deliveries.c
_IN_STATUS = {
    DeliveryStatus.PENDING: _columns.delivered_at.is_(None) & _columns.given_up_at.is_(None),
    DeliveryStatus.DELIVERED: _columns.delivered_at.is_not(None),
    DeliveryStatus.FAILED: _columns.given_up_at.is_not(None),
}


def _due(row: Row[Any], to: Row[Any], secrets_: tuple[str, ...]) -> Due:
    job_id = None if row.tenant == OPERATOR else row.job_id
    return Due(row.id, to.id, row.tenant, to.url, row.payload, secrets_, job_id, row.traceparent)


def _disable(conn: Connection, endpoint: Row[Any], reason: str, now: float) -> None:
    store.change_endpoint(conn, endpoint.id, disabled_at=now, disabled_reason=reason)
    store.hold(conn, endpoint.id)
    data = {"url": endpoint.url, "reason": reason}
    eventlog.append(conn, "webhook.disabled", endpoint.id, now, tenant=endpoint.tenant, data=data)


def _found(conn: Connection, delivery_id: str, tenant: str | None) -> Delivery:
    rows = store.deliveries(conn, _columns.id == delivery_id, tenant=tenant)
    if not rows:
        raise NotFound(f"no delivery {delivery_id}")
    return _read(rows[0])


def _read(row: Row[Any]) -> Delivery:
    return Delivery(**{name: getattr(row, name) for name in Delivery.__dataclass_fields__})


def _endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(**{name: getattr(row, name) for name in Endpoint.__dataclass_fields__})


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
