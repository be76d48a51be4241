"""The calls of the hook for capacity: each is made until it has succeeded, or is no longer wanted.

A call is written in the transaction of the decision that it follows from. It is taken by pushing its next try into the
future: who dies with it in hand only delays it, and so the hook may be called twice with the same id.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import Connection, Row

from scheduler.capacity import CAPACITY
from scheduler.ids import new_id
from scheduler.states import CapacityAction, GpuState
from scheduler.store import capacity as store
from scheduler.store import drains, eventlog, machines
from scheduler.store.database import Database

_LEASE_SECONDS = 30.0  # beyond the time that a call may take
_BACKOFF_SECONDS, _LONGEST_SECONDS = 5.0, 300.0
_ERROR_MAX_CHARS = 500


CallEvent = Literal["capacity.start", "capacity.stop"]


class CallStatus(StrEnum):
    """Where a call stands."""

    PENDING = "pending"  # it is to be made (again)
    DONE = "done"
    DROPPED = "dropped"  # it was no longer wanted


class HookFailed(Exception):
    """A call has not succeeded; one line says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the hook: to start `count` GPUs, or to stop a `host` with all its GPUs. Times are seconds since 1970.

    `id` is the same in each try. Of `next_at`, `done_at` and `dropped_at` (it was no longer wanted) one is known.
    """

    id: str
    action: CapacityAction
    count: int
    host: str | None
    gpus: tuple[str, ...]
    wanted: int
    online: int
    reason: str
    asked_at: float
    tries: int
    next_at: float | None
    error: str | None
    done_at: float | None
    dropped_at: float | None

    @property
    def status(self) -> CallStatus:
        """Where it stands."""
        if self.next_at is not None:
            return CallStatus.PENDING
        return CallStatus.DROPPED if self.done_at is None else CallStatus.DONE

    @property
    def event(self) -> CallEvent:
        """The type of the event that tells of it."""
        return "capacity.start" if self.action is CapacityAction.START else "capacity.stop"


class Calls:
    """Takes the calls that are due; one may last `timeout_seconds`. Thread-safe."""

    def __init__(self, database: Database, timeout_seconds: float) -> None:
        self._database = database
        self._timeout_seconds = timeout_seconds

    def make(self, hook: Callable[[Call], None]) -> list[str]:
        """Make the calls that are due, one after another; returns a line for each.

        `hook` raises `HookFailed` for one that is to be tried again.
        """
        made = []
        while (call := self._take()) is not None:
            try:
                hook(call)
            except HookFailed as failed:
                made.append(self._failed(call, str(failed)))
            else:
                self._succeeded(call)
                made.append(f"{call.event} {call.id}: done")
        return made

    def _take(self) -> Call | None:
        """Take the next call that is due and still wanted; it is due again when the lease is over."""
        with self._database.read() as conn:
            if store.next_due(conn, self._database.now(conn)) is None:
                return None
        with self._database.write() as conn:
            state, now = store.lock(conn), self._database.now(conn)
            while (row := store.next_due(conn, now)) is not None:
                if _is_wanted(conn, row, state):
                    until = now + self._timeout_seconds + _LEASE_SECONDS
                    taken = store.change(conn, row.id, next_at=until, tries=row.tries + 1)
                    return None if taken is None else as_call(taken)
                store.change(conn, row.id, next_at=None, dropped_at=now)
                if row.action == CapacityAction.STOP:  # what of it is there still can be taken back
                    drains.stop(conn, row.gpus, None)
        return None

    def _succeeded(self, call: Call) -> None:
        with self._database.write() as conn:
            store.lock(conn)
            store.change(conn, call.id, next_at=None, error=None, done_at=self._database.now(conn))

    def _failed(self, call: Call, error: str) -> str:
        """Put a call off, longer with each try, and tell of it."""
        error = error[:_ERROR_MAX_CHARS]
        wait_seconds = min(_LONGEST_SECONDS, _BACKOFF_SECONDS * 2.0 ** min(call.tries - 1, 64))
        with self._database.write() as conn:
            store.lock(conn)
            now = self._database.now(conn)
            if store.change(conn, call.id, next_at=now + wait_seconds, error=error) is None:
                return f"{call.event} {call.id}: done by another meanwhile"
            data = {**_told(call), "action": call.action, "tries": call.tries, "error": error}
            eventlog.append(conn, "capacity.failed", CAPACITY, now, actor=CAPACITY, data=data)
        return f"capacity.failed {call.id}: {call.action}, try {call.tries}: {error}"


def ask(conn: Connection, now: float, **values: Any) -> str:
    """Write a call, and the event that tells of it; returns a line."""
    fresh = {"asked_at": now, "tries": 0, "next_at": now, "error": None, "done_at": None, "dropped_at": None}
    call = Call(id=new_id("cap"), **{**fresh, **values, "gpus": tuple(values["gpus"])})
    store.ask(conn, id=call.id, **fresh, **values)
    eventlog.append(conn, call.event, CAPACITY, now, actor=CAPACITY, data=_told(call))
    of_host = "" if call.host is None else f" host {call.host} with"
    return f"{call.event} {call.id}:{of_host} {call.count} GPU{'' if call.count == 1 else 's'}: {call.reason}"


def _told(call: Call) -> dict[str, Any]:
    names = ("id", "count", "host", "wanted", "online", "reason")
    return {**{name: getattr(call, name) for name in names}, "gpus": list(call.gpus)}


def _is_wanted(conn: Connection, row: Row[Any], state: Row[Any]) -> bool:
    """Whether a call that is due is still to be made: so many GPUs are missing, or the host is still out of service.

    A try may come long after the decision: a GPU of the host that was silent then may run jobs by now.
    """
    if row.action == CapacityAction.START:
        return bool(state.missing >= row.count)
    found = machines.lock_known_gpus(conn, row.gpus)
    return bool(found) and all(is_drained(gpu) for gpu in found) and not store.works(conn, row.host)


def is_drained(gpu: Row[Any]) -> bool:
    """Tell whether a row of a GPU is that of one that capacity has drained."""
    return bool(gpu.actor == CAPACITY and gpu.state == GpuState.DRAINED)


def as_call(row: Row[Any]) -> Call:
    """Read a row of the calls."""
    values = {name: getattr(row, name) for name in Call.__dataclass_fields__}
    return Call(**{**values, "action": CapacityAction(row.action), "gpus": tuple(row.gpus)})
