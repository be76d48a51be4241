"""Alerts: the rules, applied again and again, and what came of it.

A condition that lasts becomes an alert: it fires once, stays until its condition has not been seen for a while, and is
resolved once. Both are events, which a webhook tells the operator. All front ends call `run_once`: whoever comes first
looks for all, and the others pass. Only at its own disks each must look itself.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from scheduler import alerts as rules
from scheduler.alerts import Condition, Disk, FailedCall, Kind, Look, Rule, Severity, Thresholds, Worn
from scheduler.fleet import Fleet
from scheduler.ids import new_id
from scheduler.samples import Samples
from scheduler.store import alerts as store
from scheduler.store import eventlog, waits
from scheduler.store.database import Database

EVERY_SECONDS = 5.0  # how often each front end calls
FIRING, RESOLVED = "alert.firing", "alert.resolved"  # events
_TURN_SECONDS = 0.8 * EVERY_SECONDS  # less, so that a call that comes a little early is not for nothing
_GAP_SECONDS = 3 * EVERY_SECONDS  # without its condition for longer, what had not fired yet is forgotten
_DAY = 86_400.0
_MOST = 1000  # alerts that are listed


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that an operator was told of. Times are seconds since 1970 by the database's clock.

    The condition was there first at `since`; `message`, `value` and `threshold` are as it was last seen.
    """

    id: str
    rule: Rule
    subject: str
    message: str
    value: float
    threshold: float
    since: float
    fired_at: float
    resolved_at: float | None

    @property
    def kind(self) -> Kind:
        """What it is about."""
        return self.rule.kind

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.rule.severity


class Alerts:
    """The readers' side. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def told(self) -> list[Alert]:
        """Return the alerts that fire, then those that have ended in the last day: the newest of each first."""
        with self._database.read() as conn:
            rows = store.told(conn, self._database.now(conn) - _DAY, _MOST)
        return [_alert(row) for row in rows]


class Alarm:
    """Looks for what is wrong, on behalf of a front end on `host`; `disks` are those that it writes to. Thread-safe.

    An alert ends when its condition has not been seen for `clear_seconds`, and is kept for `retention_seconds` more.
    """

    def __init__(
        self,
        database: Database,
        fleet: Fleet,
        samples: Samples,
        thresholds: Thresholds,
        *,
        host: str,
        disks: Callable[[], Iterable[Disk]],
        clear_seconds: float,
        retention_seconds: float,
    ) -> None:
        self._database = database
        self._fleet = fleet
        self._samples = samples
        self._thresholds = thresholds
        self._host = host
        self._disks = disks
        self._clear_seconds = clear_seconds
        self._retention_seconds = retention_seconds

    def run_once(self) -> list[str]:
        """Look, where nobody has lately, and write down what has changed; returns a line for each change."""
        found = rules.disk_conditions(self._host, self._disks(), self._thresholds.disk)
        with self._database.read() as conn:
            now = self._database.now(conn)
            due = store.is_due(conn, now)
        if due:
            found += rules.conditions(self._look(now), self._thresholds)
        if not due and not found:
            return []
        with self._database.write() as conn:
            next_at, now = store.lock(conn), self._database.now(conn)
            changes = self._see(conn, found, now)
            if next_at <= now:  # or another has meanwhile done the rest
                store.put_off(conn, now + _TURN_SECONDS)
                changes += self._let_go(conn, now)
        return changes

    def _look(self, now: float) -> Look:
        gpus, since = self._fleet.gpus(), now - rules.RECENT_SECONDS
        full = any(rules.is_full(gpu, self._thresholds.full) for gpu in gpus)
        with self._database.read() as conn:
            ended = waits.recent(conn, since).values()
            attempts, out_of_memory = store.attempts(conn, since)
            worn = store.worn(conn, [gpu.info.id for gpu in gpus], since)
            failed_calls = store.failed_calls(conn)
        return Look(
            now=now,
            gpus=gpus,
            activity=self._samples.totals(now - rules.ACTIVITY_SECONDS, now) if full else {},
            wait_seconds=sum(one.wait_seconds for one in ended),
            turnaround_seconds=sum(one.turnaround_seconds for one in ended),
            attempts=attempts,
            out_of_memory=out_of_memory,
            worn=[Worn(row.subject, row.data["reason"]) for row in worn],
            failed_calls=[FailedCall(row.id, row.action, row.tries, row.error) for row in failed_calls],
        )

    def _see(self, conn: Connection, found: Sequence[Condition], now: float) -> list[str]:
        """Write down which conditions hold; fire those that have held for long enough."""
        known = {(row.rule, row.subject): row for row in store.unresolved(conn)} if found else {}
        changes = []
        for one in found:
            row = known.get((one.rule, one.subject))
            values: dict[str, Any] = {
                "seen_at": now, "value": one.value, "threshold": one.threshold, "message": one.message
            }  # fmt: skip
            if row is None:
                row = store.add(conn, id=new_id("alert"), rule=one.rule, subject=one.subject, since=now, **values)
            elif row.fired_at is None and now - row.seen_at > _GAP_SECONDS:
                row = store.change(conn, row.id, since=now, **values)
            else:
                row = store.change(conn, row.id, **values)
            if row.fired_at is None and now - row.since >= one.rule.for_seconds:
                changes.append(_tell(conn, FIRING, store.change(conn, row.id, fired_at=now), now))
        return changes

    def _let_go(self, conn: Connection, now: float) -> list[str]:
        """Forget conditions that did not last, resolve alerts whose conditions are gone, delete old ones."""
        unseen = [row for row in store.unresolved(conn) if row.seen_at < now]
        passing = [row.id for row in unseen if row.fired_at is None and now - row.seen_at > _GAP_SECONDS]
        if passing:
            store.drop(conn, passing)
        store.prune(conn, now - self._retention_seconds)
        return [
            _tell(conn, RESOLVED, store.change(conn, row.id, resolved_at=now), now)
            for row in unseen
            if row.fired_at is not None and now - row.seen_at >= self._clear_seconds
        ]


def _tell(conn: Connection, event: str, row: Row[Any], now: float) -> str:
    alert = _alert(row)
    data = {
        "rule": alert.rule,
        "severity": alert.severity,
        "kind": alert.kind,
        "subject": alert.subject,
        "message": alert.message,
        "value": alert.value,
        "threshold": alert.threshold,
        "since": alert.since,
        "fired_at": alert.fired_at,
        "resolved_at": alert.resolved_at,
    }
    eventlog.append(conn, event, alert.id, now, data=data)
    return f"{event}: {alert.rule}: {alert.message}"


def _alert(row: Row[Any]) -> Alert:
    return Alert(
        id=row.id,
        rule=Rule(row.rule),
        subject=row.subject,
        message=row.message,
        value=row.value,
        threshold=row.threshold,
        since=row.since,
        fired_at=row.fired_at,
        resolved_at=row.resolved_at,
    )
