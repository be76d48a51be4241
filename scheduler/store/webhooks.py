"""Statements of the webhooks: how far the log was read, endpoints, deliveries and their tries, the tenants' secrets.

Whoever changes an endpoint or a delivery of it locks the endpoint's row first; several are locked in the order of their
tenants and URLs.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, delete, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from scheduler.ids import new_id
from scheduler.store import schema as s

AT_ONCE = 1000  # events, or deliveries, that one transaction takes
_events, _jobs, _states, _results = s.events.c, s.jobs.c, s.job_states.c, s.results.c
_endpoints, _deliveries, _tries = s.webhook_endpoints.c, s.webhook_deliveries.c, s.webhook_attempts.c
_PENDING = _deliveries.delivered_at.is_(None) & _deliveries.given_up_at.is_(None)
_CURSOR = select(s.webhook_cursor.c.position)
_FIRST = select(func.min(_events.position))


def next_after(conn: Connection) -> int:
    """Return the position past which the log is to be read: the cursor, or what is just before the oldest event."""
    first = conn.execute(_FIRST).scalar() or 1
    return max(int(conn.execute(_CURSOR).scalar() or 0), first - 1)


def lock_cursor(conn: Connection) -> int:
    """Return how far the log was read, and let nobody else move on until the transaction ends."""
    first = _insert(conn, s.webhook_cursor).values(only_row=1, position=0)
    conn.execute(first.on_conflict_do_nothing())
    return int(conn.execute(_CURSOR.with_for_update()).scalar_one())


def move_cursor(conn: Connection, position: int) -> None:
    """Say that the log was read up to `position`."""
    conn.execute(update(s.webhook_cursor).values(position=position))


def news(conn: Connection, types: Collection[str], after: int, until: int) -> list[Row[Any]]:
    """Return the events in (after, until] of jobs that have a webhook, in order, with what is told of the jobs."""
    query = _news(types, after, until).add_columns(
        _events.type,
        _events.at,
        _jobs.id.label("job_id"),
        _jobs.tenant,
        _jobs.model,
        _jobs.metadata,
        _jobs.webhook_url,
        _jobs.webhook_events,
        _states.error_code,
        _states.error_message,
        _results.job_id.label("result"),
        _results.preview_key,
    )
    joined = query.join(s.job_states, _states.job_id == _jobs.id).outerjoin(s.results, _results.job_id == _jobs.id)
    return list(conn.execute(joined.order_by(_events.position)))


def any_news(conn: Connection, types: Collection[str], after: int, until: int) -> bool:
    """Return whether `news` would find something."""
    return conn.execute(_news(types, after, until).limit(1)).first() is not None


def alerts(conn: Connection, types: Collection[str], after: int, until: int) -> list[Row[Any]]:
    """Return the events of these types in (after, until], in order."""
    within = (_events.position > after, _events.position <= until, _events.type.in_(types))
    return list(conn.execute(select(s.events).where(*within).order_by(_events.position)))


def _news(types: Collection[str], after: int, until: int) -> Select[Any]:
    return (
        select(_events.position)
        .join(s.jobs, _jobs.id == _events.subject)
        .where(_events.position > after, _events.position <= until, _events.type.in_(types))
        .where(_jobs.webhook_url.is_not(None))
    )


def endpoint(conn: Connection, tenant: str, url: str, now: float) -> Row[Any]:
    """Return the endpoint of a tenant's URL, locked; made if it is new."""
    made = _insert(conn, s.webhook_endpoints).values(id=new_id("we"), tenant=tenant, url=url, created_at=now)
    # The update changes nothing, but it locks the row and returns it.
    known = made.on_conflict_do_update(index_elements=["tenant", "url"], set_={"url": url})
    return conn.execute(known.returning(_endpoints.id, _endpoints.disabled_at)).one()


def put(conn: Connection, deliveries: Sequence[Mapping[str, Any]]) -> None:
    """Insert new deliveries, whose endpoints are locked."""
    conn.execute(insert(s.webhook_deliveries), [dict(one) for one in deliveries])


def any_due(conn: Connection, now: float, busy: Mapping[str, str], each: int) -> bool:
    """Return whether `take_due` would find something."""
    return conn.execute(_due(now, busy, each).limit(1)).first() is not None


def take_due(
    conn: Connection, now: float, until: float, busy: Mapping[str, str], each: int, limit: int
) -> list[tuple[Row[Any], Row[Any]]]:
    """Push the time of deliveries that are due on to `until`; returns each with its endpoint.

    The first of each endpoint, among the first `limit` that are due; those of endpoints that fail only if there are no
    others. `busy` has the endpoints to be left out, with their tenants: no tenant gets more than `each` with them.
    """
    due = _due(now, busy, each).join(s.webhook_endpoints, _endpoints.id == _deliveries.endpoint_id)
    due = due.order_by(_deliveries.next_at).limit(limit).with_for_update(of=s.webhook_deliveries, skip_locked=True)
    fails = _endpoints.failing_since.is_not(None)
    rows = conn.execute(due.where(~fails)).all() or conn.execute(due.where(fails)).all()
    first: dict[str, str] = {}
    of_tenant = Counter(busy.values())
    for row in rows:
        if row.endpoint_id not in first and of_tenant[row.tenant] < each:
            first[row.endpoint_id] = row.id
            of_tenant[row.tenant] += 1
    taken = update(s.webhook_deliveries).where(_deliveries.id.in_(first.values())).values(next_at=until)
    traceparent = select(s.jobs.c.traceparent).where(s.jobs.c.id == _deliveries.job_id).scalar_subquery()
    rows = conn.execute(taken.returning(*_deliveries, traceparent.label("traceparent"))).all()
    urls = conn.execute(select(s.webhook_endpoints).where(_endpoints.id.in_(first)))
    by_id = {row.id: row for row in urls}
    return [(row, by_id[row.endpoint_id]) for row in rows]


def _due(now: float, busy: Mapping[str, str], each: int) -> Select[Any]:
    full = [tenant for tenant, count in Counter(busy.values()).items() if count >= each]
    return select(_deliveries.id, _deliveries.endpoint_id, _deliveries.tenant).where(
        _deliveries.next_at <= now, _deliveries.endpoint_id.not_in(list(busy)), _deliveries.tenant.not_in(full)
    )


def lock_delivery(conn: Connection, delivery_id: str) -> tuple[Row[Any], Row[Any]] | None:
    """Return a delivery and its endpoint, both locked; None where it is kept no longer."""
    owner = select(_deliveries.endpoint_id).where(_deliveries.id == delivery_id).scalar_subquery()
    found = lock_endpoints(conn, _endpoints.id == owner)
    locked = select(s.webhook_deliveries).where(_deliveries.id == delivery_id).with_for_update()
    row = conn.execute(locked).one_or_none()
    return None if row is None or not found else (row, found[0])


def lock_endpoints(conn: Connection, *where: Any) -> list[Row[Any]]:
    """Return the endpoints that fit, locked."""
    query = select(s.webhook_endpoints).where(*where).order_by(_endpoints.tenant, _endpoints.url)
    return list(conn.execute(query.with_for_update()))


def log_try(
    conn: Connection, delivery: Row[Any], *, at: float, seconds: float, status: int | None, error: str | None
) -> int:
    """Add a try to the log of a locked delivery; returns how many there are now."""
    number = int(delivery.tries) + 1
    values = {"delivery_id": delivery.id, "number": number, "at": at, "seconds": seconds}
    conn.execute(insert(s.webhook_attempts).values(**values, status=status, error=error))
    change_delivery(conn, delivery.id, tries=number)
    return number


def change_delivery(conn: Connection, delivery_id: str, **values: object) -> None:
    """Change a locked delivery."""
    conn.execute(update(s.webhook_deliveries).where(_deliveries.id == delivery_id).values(**values))


def change_endpoint(conn: Connection, endpoint_id: str, **values: object) -> None:
    """Change a locked endpoint."""
    conn.execute(update(s.webhook_endpoints).where(_endpoints.id == endpoint_id).values(**values))


def hold(conn: Connection, endpoint_id: str) -> None:
    """Let what is pending for a locked endpoint wait."""
    held = update(s.webhook_deliveries).where(_deliveries.endpoint_id == endpoint_id, _deliveries.next_at.is_not(None))
    conn.execute(held.values(next_at=None))


def release(conn: Connection, endpoint_id: str, now: float) -> None:
    """Let what waits for a locked endpoint be sent."""
    held = update(s.webhook_deliveries).where(_deliveries.endpoint_id == endpoint_id, _PENDING)
    conn.execute(held.values(next_at=now))


def endpoints(conn: Connection, tenant: str | None, before_id: str | None, limit: int) -> list[Row[Any]]:
    """Return endpoints, of `tenant` where given, newest first."""
    query = select(s.webhook_endpoints).order_by(_endpoints.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(_endpoints.tenant == tenant)
    if before_id is not None:
        query = query.where(_endpoints.id < before_id)
    return list(conn.execute(query))


def deliveries(
    conn: Connection,
    *where: Any,
    tenant: str | None,
    job_id: str | None = None,
    before_id: str | None = None,
    limit: int = 1,
) -> list[Row[Any]]:
    """Return deliveries with the URLs of their endpoints, of `tenant` and `job_id` where given, newest first."""
    query = (
        select(s.webhook_deliveries, _endpoints.url)
        .join(s.webhook_endpoints, _endpoints.id == _deliveries.endpoint_id)
        .where(*where)
        .order_by(_deliveries.id.desc())
        .limit(limit)
    )
    if tenant is not None:
        query = query.where(_deliveries.tenant == tenant)
    if job_id is not None:
        query = query.where(_deliveries.job_id == job_id)
    if before_id is not None:
        query = query.where(_deliveries.id < before_id)
    return list(conn.execute(query))


def tries(conn: Connection, delivery_id: str) -> list[Row[Any]]:
    """Return the tries of a delivery, the first one first."""
    return list(
        conn.execute(select(s.webhook_attempts).where(_tries.delivery_id == delivery_id).order_by(_tries.number))
    )


def prune(conn: Connection, before: float) -> int:
    """Delete the oldest deliveries from before `before` that nothing is to be done for, and endpoints without any.

    At most `AT_ONCE` of each; returns how many deliveries. Ids sort by time, so old ones are found first.
    """
    # A row that is locked is being used, or deleted by somebody else; waiting for it could end in a deadlock.
    idle = select(_deliveries.id, _deliveries.created_at).where(_deliveries.next_at.is_(None))
    oldest = conn.execute(idle.order_by(_deliveries.id).limit(AT_ONCE).with_for_update(skip_locked=True))
    old = [row.id for row in oldest if row.created_at < before]
    pruned = conn.execute(delete(s.webhook_deliveries).where(_deliveries.id.in_(old))).rowcount if old else 0
    unused = ~exists().where(_deliveries.endpoint_id == _endpoints.id)
    idle = select(_endpoints.id).where(_endpoints.created_at < before, unused)
    ids = conn.execute(idle.order_by(_endpoints.id).limit(AT_ONCE).with_for_update(skip_locked=True)).scalars().all()
    if ids:  # once locked no delivery can come; one may have come before
        conn.execute(delete(s.webhook_endpoints).where(_endpoints.id.in_(ids), unused))
    return pruned


def secrets(conn: Connection, tenant: str) -> list[dict[str, Any]]:
    """Return the secrets of a tenant, the newest first, those included that are over."""
    return conn.execute(_secrets(tenant)).scalar() or []


def lock_secrets(conn: Connection, tenant: str) -> list[dict[str, Any]]:
    """Return the secrets of a tenant, whose row is locked; made if it is new."""
    conn.execute(_insert(conn, s.tenants).values(id=tenant, virtual_at=0.0).on_conflict_do_nothing())
    return conn.execute(_secrets(tenant).with_for_update()).scalar_one() or []


def put_secrets(conn: Connection, tenant: str, kept: Sequence[Mapping[str, Any]]) -> None:
    """Replace the secrets of a tenant, whose row is locked."""
    values = {"webhook_secrets": [dict(one) for one in kept]}
    conn.execute(update(s.tenants).where(s.tenants.c.id == tenant).values(values))


def _secrets(tenant: str) -> Select[Any]:
    return select(s.tenants.c.webhook_secrets).where(s.tenants.c.id == tenant)


def _insert(conn: Connection, table: Table) -> Any:
    return sqlite_insert(table) if conn.dialect.name == "sqlite" else postgres_insert(table)
