"""Quotas of waiting jobs, the whole queue's and each tenant's: how many more may come, and when one should get in."""

import math
import time
from collections import Counter as Multiset
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from scheduler.errors import QueueFull, TenantQueueFull
from scheduler.limits import TenantLimits
from scheduler.states import GpuState
from scheduler.store.submission import Counter, Fleet

_COUNT_SECONDS = 1.0  # how long a count of the queue may be relied on
_COUNT_SHARE = 8  # and for how much of the room it found: one in so many
_COUNT_PAUSE = 20.0  # what a refusal needs to know is not counted again before so many times as long as it took

_SAMPLE = 100  # jobs whose mean time tells when to come again
_LATEST_SECONDS = 600.0  # however long the backlog is, things may change: nobody is sent away for longer

_WHOLE = None  # the bound that is nobody's own


class Quotas:
    """What is remembered of the bounds between two groups of submits: `max_queued` jobs in all, and each tenant's."""

    def __init__(self, max_queued: int) -> None:
        self._max_queued = max_queued
        self._rooms: dict[str | None, _Room] = {_WHOLE: _Room()}

    def admission(
        self, counter: Counter, fleet: Fleet, limits: Mapping[str, TenantLimits], tenants: Sequence[str]
    ) -> "Admission":
        """Return what decides over a group of jobs: `tenants` are their owners, `limits` those of each."""
        bounds: dict[str | None, int] = {_WHOLE: self._max_queued}
        bounds.update({tenant: own.max_queued for tenant, own in limits.items() if own.max_queued is not None})
        wanted: dict[str | None, int] = {**Multiset(tenants), _WHOLE: len(tenants)}
        rooms = {bound: self._rooms.setdefault(bound, _Room()) for bound in bounds}
        left = {
            bound: rooms[bound].left(limit, wanted[bound], partial(counter.queued, tenant=bound))
            for bound, limit in bounds.items()
        }
        return Admission(rooms, bounds, left, Backlog(counter, fleet, limits, bounds))


class Admission:
    """Lets the jobs of one group in while there is room, and refuses the rest."""

    def __init__(
        self,
        rooms: Mapping[str | None, "_Room"],
        bounds: Mapping[str | None, int],
        left: dict[str | None, int],
        backlog: "Backlog",
    ) -> None:
        self._rooms = rooms
        self._bounds = bounds
        self._left = left
        self._backlog = backlog

    def refusal(self, tenant: str) -> QueueFull | None:
        """Return why one more job of `tenant` cannot come, if it cannot."""
        for bound in (tenant, _WHOLE):
            if self._left.get(bound, 1) <= 0:
                after = self._rooms[bound].retry_after(partial(self._backlog.seconds, bound))
                limit = self._bounds[bound]
                if bound is _WHOLE:
                    return QueueFull(f"the queue is full: {_jobs(limit)} waiting", after, limit)
                return TenantQueueFull(_at_limit(tenant, limit), after, limit)
        return None

    def admit(self, tenant: str) -> None:
        """Count one more job of `tenant`."""
        for bound in (tenant, _WHOLE):
            if bound in self._left:
                self._left[bound] -= 1


class Backlog:
    """How fast what waits is worked off."""

    def __init__(
        self, counter: Counter, fleet: Fleet, limits: Mapping[str, TenantLimits], bounds: Mapping[str | None, int]
    ) -> None:
        self._counter = counter
        self._fleet = fleet
        self._limits = limits
        self._bounds = bounds

    def seconds(self, tenant: str | None) -> float:
        """Return after how many seconds one of those that wait, or one of the tenant's, should have been started.

        Each of the workers starts a job in the mean time of a job; a tenant has as many of the starts as it has of the
        jobs that are due, and never more at once than may run. Where all are put off, it is when the first is due.
        """
        most = None if tenant is _WHOLE else self._limits[tenant].max_running
        if most == 0:
            return _LATEST_SECONDS
        due = self._counter.due(self._bounds[tenant], tenant)
        if due == 0:
            first = self._counter.seconds_to_first(tenant)
            return _LATEST_SECONDS if first is None else min(_LATEST_SECONDS, first)
        workers: float = max(1, _workers(self._fleet))
        if tenant is not _WHOLE:
            workers *= due / max(1, self._counter.due(self._bounds[_WHOLE]))
            workers = min(workers, math.inf if most is None else most)
        return min(_LATEST_SECONDS, self._counter.mean_seconds(_SAMPLE, tenant) / workers)


class _Room:
    """How much is left under one bound.

    A long queue is not counted for every job: for a second, an eighth of the room that was found may be filled unseen,
    so that several front ends together may exceed the limit by a few jobs in a hundred at most. Nor is a full one
    counted for every job that it refuses.
    """

    def __init__(self) -> None:
        self._passes = 0  # how many more jobs may come before the queue is counted again,
        self._count_at = 0.0  # and when it is at the latest
        self._full_until = 0.0
        self._retry_after = 0.0
        self._retry_after_until = 0.0

    def left(self, limit: int, wanted: int, count: Callable[[int], int]) -> int:
        """Return how many jobs may come now; `count` counts those that wait, no further than it is told."""
        started = time.monotonic()
        if started < self._full_until:
            return 0
        if wanted <= self._passes and started < self._count_at:
            self._passes -= wanted
            return wanted
        room = limit - count(limit)
        counted = time.monotonic()
        self._passes = room // _COUNT_SHARE
        self._count_at = counted + _COUNT_SECONDS
        if room <= 0:
            self._full_until = counted + _COUNT_PAUSE * (counted - started)
        return room

    def retry_after(self, compute: Callable[[], float]) -> float:
        """Return when to come again, in seconds."""
        started = time.monotonic()
        if started >= self._retry_after_until:
            self._retry_after = compute()
            counted = time.monotonic()
            self._retry_after_until = counted + _COUNT_PAUSE * (counted - started)
        return self._retry_after


def _at_limit(tenant: str, limit: int) -> str:
    if limit == 0:
        return f"tenant {tenant} may have no jobs waiting"
    return f"{_jobs(limit)} waiting, as many as tenant {tenant} may have"


def _jobs(number: int) -> str:
    return "1 job is" if number == 1 else f"{number} jobs are"


def _workers(fleet: Fleet) -> int:
    """How many workers take jobs."""
    active = (gpu for gpu in fleet.gpus if gpu.online and gpu.state is GpuState.ACTIVE)
    return sum(worker.ready for gpu in active for worker in gpu.workers)
