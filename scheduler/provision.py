"""Capacity, kept: decided again and again, and each start and stop called until it has succeeded.

All front ends call `Provisioner.run_once`. Whoever comes first decides for all; a decision is one transaction with the
calls that follow from it (`scheduler.calls`), so another front end goes on where one left off.

To be stopped, the GPUs of a host are drained first, and their jobs end. What is being drained when work comes is taken
back, unless its stop was asked for. From then on it counts as a GPU that can come back: jobs are accepted by it, and it
is active again once its host registers (`Fleet.register`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from scheduler import capacity, pressure
from scheduler.calls import Call, Calls, as_call, ask, is_drained
from scheduler.capacity import CAPACITY, Decision, Limits, Look, Lull, Start
from scheduler.drains import DrainOrder
from scheduler.fleet import Fleet
from scheduler.footprints import Footprints
from scheduler.hosts import Hosts
from scheduler.policy import Policy
from scheduler.prices import Prices
from scheduler.states import CapacityAction, GpuState
from scheduler.store import capacity as store
from scheduler.store import drains, machines
from scheduler.store.database import Database
from scheduler.wakeup import JOBS_WAITING, Wakeup
from scheduler.windows import Windows

EVERY_SECONDS = 5.0  # how often each front end calls
_TURN_SECONDS = 0.8 * EVERY_SECONDS  # less, so that a call that comes a little early is not for nothing
_GAP_SECONDS = 6 * EVERY_SECONDS  # after longer without a look nobody knows whether what was idle has stayed so
_LISTED = 20


@dataclass(frozen=True, slots=True)
class State:
    """What was decided last, by a look at `looked_at`; `since` is when `wanted` last changed.

    While `cooldown_until` is ahead, what was started last is waited for. The newest calls come first.
    """

    looked_at: float
    since: float
    wanted: int
    online: int
    reason: str
    cooldown_until: float | None
    calls: tuple[Call, ...]


class Provisioner:
    """Decides, and takes the calls; a call of the hook may last `timeout_seconds`. Thread-safe."""

    def __init__(
        self,
        database: Database,
        policy: Policy,
        wakeup: Wakeup,
        fleet: Fleet,
        footprints: Footprints,
        *,
        limits: Limits,
        prices: Prices,
        windows: Windows | None,
        timeout_seconds: float,
    ) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup
        self._fleet = fleet
        self._footprints = footprints
        self._limits = limits
        self._prices = prices
        self._windows = windows
        self._calls = Calls(database, timeout_seconds)

    def run_once(self, hook: Callable[[Call], None]) -> list[str]:
        """Decide, where nobody has lately, and make the calls that are due; returns a line for each thing done.

        `hook` raises `HookFailed` for a call that is to be tried again.
        """
        return [*self._decide(), *self._calls.make(hook)]

    def state(self) -> State | None:
        """Return what was decided last; None before the first decision."""
        with self._database.read() as conn:
            row = store.state(conn)
            if row is None:
                return None
            last = _last_start(conn)
            calls = tuple(as_call(one) for one in store.calls(conn, _LISTED))
        coming = capacity.is_coming(last, row.looked_at, self._limits)
        return State(
            looked_at=row.looked_at,
            since=row.since,
            wanted=row.wanted,
            online=row.online,
            reason=row.reason,
            cooldown_until=_expected_until(last, self._limits) if coming else None,
            calls=calls,
        )

    def _decide(self) -> list[str]:
        with self._database.read() as conn:
            now, before = self._database.now(conn), store.state(conn)
        looked_at = 0.0 if before is None else before.looked_at
        if looked_at <= now < looked_at + _TURN_SECONDS:
            return []
        look, hosts = self._look(now)
        with self._database.write() as conn:
            last, now = store.lock(conn), self._database.now(conn)
            if last.looked_at != looked_at:
                return []  # another has decided meanwhile
            lull = None
            if last.lull_since is not None and now - looked_at <= _GAP_SECONDS:
                lull = Lull(last.lull_since, last.lull_peak)
            decision = capacity.decide(look, lull, self._limits)
            done = self._act(conn, decision, look, hosts, now)
            _write(conn, decision, look, last, now)
            store.arrived(conn, look.online, now)
            store.prune(conn, now - self._policy.retention_seconds)
        if decision.resume or decision.drain:
            self._wakeup.notify(JOBS_WAITING)
        return done

    def _look(self, now: float) -> tuple[Look, Hosts]:
        gpus, predictor = self._fleet.gpus(), self._footprints.current()
        limits = self._limits
        with self._database.read() as conn:
            hosts = Hosts.of(gpus, self._prices, store.stopping_hosts(conn), now, limits.cooldown_seconds)
            due = pressure.read(
                conn,
                self._database.clock,
                self._policy,
                predictor,
                hosts.in_service,
                hosts.startable,
                limits.target_seconds,
            )
            last_start = _last_start(conn, len(hosts.in_service))
        look = Look(
            now=now,
            open=self._windows is None or self._windows.is_open(now),
            known=bool(hosts.in_service or hosts.startable),
            work=due.work,
            stranded=due.stranded,
            online=len(hosts.in_service),
            removable=hosts.removable,
            returnable=hosts.returnable,
            last_start=last_start,
        )
        return look, hosts

    def _act(self, conn: Connection, decision: Decision, look: Look, hosts: Hosts, now: float) -> list[str]:
        """Write what follows from a decision, as far as the GPUs are still as they were seen."""
        emptied = [gpu_id for host in hosts.emptied for gpu_id in host.gpus]
        machines.lock_known_gpus(conn, [*decision.resume, *decision.drain, *emptied])  # all at once: see `lock_gpus`
        done = []
        online = look.online + len(decision.resume)
        told = {"wanted": decision.wanted, "online": online, "reason": decision.reason}
        for gpu in machines.lock_known_gpus(conn, decision.resume):
            if _is_leaving(conn, gpu):
                drains.resume(conn, gpu, CAPACITY, now)
                done.append(f"GPU {gpu.id} is taken back: {decision.reason}")
        surplus = f"{decision.wanted} of {look.online} GPUs are wanted; it is started again when there is work"
        order = DrainOrder(surplus, CAPACITY)
        for gpu in machines.lock_known_gpus(conn, decision.drain):
            if gpu.state == GpuState.ACTIVE:
                drains.begin(conn, gpu, order, now)
                drains.settle(conn, gpu.id, now)
                done.append(f"GPU {gpu.id} is let go: {decision.reason}")
        if decision.start:
            call = {"action": CapacityAction.START, "count": decision.start, "host": None, "gpus": []}
            done.append(ask(conn, now, **call, **told))
        for host in hosts.emptied:
            found = machines.lock_known_gpus(conn, host.gpus)
            if len(found) == len(host.gpus) and all(is_drained(gpu) for gpu in found):
                drains.stop(conn, host.gpus, now)
                call = {"action": CapacityAction.STOP, "count": len(found), "host": host.name, "gpus": list(host.gpus)}
                done.append(ask(conn, now, **call, **told))
        return done


def _write(conn: Connection, decision: Decision, look: Look, last: Row[Any], now: float) -> None:
    same = last.looked_at > 0 and last.wanted == decision.wanted
    lull = decision.lull
    store.decided(
        conn,
        looked_at=now,
        since=last.since if same else now,
        wanted=decision.wanted,
        online=look.online,
        missing=decision.missing,
        reason=decision.reason,
        lull_since=None if lull is None else lull.since,
        lull_peak=None if lull is None else lull.peak,
    )


def _is_leaving(conn: Connection, gpu: Row[Any]) -> bool:
    drain = drains.current(conn, gpu.id)
    return gpu.actor == CAPACITY and drain is not None and drain.stopped_at is None


def _last_start(conn: Connection, online: int = 0) -> Start | None:
    """The start that was asked for last; it has arrived when as many GPUs as it was to make were seen, or are now."""
    row = store.last_start(conn)
    if row is None:
        return None
    arrived = row.arrived_at is not None or online >= row.online + row.count
    return Start(row.done_at, arrived, store.starts_in_vain(conn, row.asked_at))


def _expected_until(last: Start | None, limits: Limits) -> float | None:
    """Until when what was started is waited for; None where it has not been started yet."""
    if last is None or last.done_at is None:
        return None
    return last.done_at + capacity.patience_seconds(last, limits)
