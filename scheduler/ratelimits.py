"""Rate limits that hold over all processes together.

The generic cell rate algorithm: a bucket of a minute's worth fills at the limit's rate, and one number keeps it, the
time at which it is full again. So 60 a minute lets 60 through at once, and then one a second. That number is in the
database, where one guarded statement moves it on for whoever takes from the bucket. A process takes a few at once, and
serves from them without asking again.

There is a row for each bucket that was ever used, and nothing to clean up: buckets belong to tenants that an operator
has given keys.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from scheduler.store.database import Database
from scheduler.store.script import Statement

_MINUTE_SECONDS = 60.0
_BLOCK_SECONDS = 0.05  # how much a process takes at once, in what the bucket fills in
# A time since 1970 is a whole number of these, and so is an interval here: then sums are exact, until 2106.
_GRAIN_SECONDS = 2.0**-20
_ROUNDING = 1e-6  # of what is only told

# What is lost when PostgreSQL is killed is a moment's count.
_UNSYNCED = Statement("SET LOCAL synchronous_commit = off", postgres_only=True)
# `excluded` has the time at which a bucket is full again that was full until now.
_TAKE = Statement(
    """
    INSERT INTO rate_buckets (id, arrival_at) VALUES (:bucket, {now} + :cost)
    ON CONFLICT (id) DO UPDATE SET arrival_at = CASE
        WHEN rate_buckets.arrival_at + :cost > excluded.arrival_at THEN rate_buckets.arrival_at + :cost
        ELSE excluded.arrival_at
    END
    WHERE rate_buckets.arrival_at + :cost <= excluded.arrival_at - :cost + :window
    RETURNING arrival_at, {now} AS now
    """
)
_LOOK = Statement("SELECT arrival_at, {now} AS now FROM rate_buckets WHERE id = :bucket")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request may pass, and what is left: `remaining` more may now, all again in `reset_seconds`.

    `retry_after_seconds` is when the next may, and 0 while more may now. What others have taken since this process last
    asked the database is not counted in what is left.
    """

    allowed: bool
    remaining: int
    retry_after_seconds: float
    reset_seconds: float


class RateLimits:
    """The buckets, as one process uses them. Thread-safe."""

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._held: dict[str, _Held] = {}

    def take(self, bucket: str, per_minute: int) -> Decision:
        """Let one request of `bucket` pass, if `per_minute` allows for it.

        Over all processes no more pass than the limit says. One refuses while the others have a twentieth of a second's
        worth left, if that.
        """
        held = self._held.setdefault(bucket, _Held())
        with held.lock:
            held.go_by(_rate(per_minute))
            now = held.at(self._monotonic())
            allowed = held.spend(now)
            if not allowed and not held.is_spent(now):
                allowed = self._fetch(bucket, held)
                now = held.at(self._monotonic())
            return held.decision(allowed=allowed, now=now)

    def _fetch(self, bucket: str, held: "_Held") -> bool:
        """Take a block from the database, or what is left there; returns whether there was one for this request."""
        began = self._monotonic()
        rate, taken = held.rate, 0
        with self._database.trip() as trip:
            for count in sorted({rate.block, 1}, reverse=True):
                values = {"bucket": bucket, "cost": count * rate.interval_seconds, "window": rate.window_seconds}
                row = trip.row((_UNSYNCED, _TAKE), values)
                if row is not None:
                    taken = count
                    break
            else:
                row = trip.row((_LOOK,), {"bucket": bucket})
        held.learn(row.arrival_at, row.now - began, taken)
        return taken > 0


@dataclass(frozen=True, slots=True)
class _Rate:
    """A limit: a bucket holds `per_minute`, and gets one back each `interval_seconds`."""

    per_minute: int
    interval_seconds: float
    block: int

    @property
    def window_seconds(self) -> float:
        """In how long an empty bucket is full."""
        return self.per_minute * self.interval_seconds


@lru_cache(maxsize=1024)
def _rate(per_minute: int) -> _Rate:
    interval_seconds = math.ceil(_MINUTE_SECONDS / per_minute / _GRAIN_SECONDS) * _GRAIN_SECONDS
    return _Rate(per_minute, interval_seconds, max(1, round(_BLOCK_SECONDS / interval_seconds)))


class _Held:
    """What a process holds of a bucket, taken and not yet spent, and what it saw there last. Times are the database's.

    `lock` must be held by whoever uses it.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rate = _rate(1)
        self._count = 0
        self._arrival_at = 0.0  # when the bucket is full again; later, where others have taken since
        self._ahead = 0.0  # of the monotonic clock, by which the database's is read without asking

    def go_by(self, rate: _Rate) -> None:
        """Use `rate` from now on; what is held under another one is given up."""
        if rate != self.rate:
            self.rate, self._count = rate, 0

    def at(self, monotonic: float) -> float:
        """Return the time, and rather a later one."""
        return self._ahead + monotonic

    def spend(self, now: float) -> bool:
        """Spend one, if there is one.

        No more may be held than is missing from the bucket, or else it would in truth hold more than when it is full.
        """
        missing = math.floor((self._arrival_at - now) / self.rate.interval_seconds)
        self._count = min(self._count, max(0, missing))
        if self._count == 0:
            return False
        self._count -= 1
        return True

    def is_spent(self, now: float) -> bool:
        """Whether the bucket is known to be empty, so that asking is of no use."""
        return self._arrival_at + self.rate.interval_seconds > now + self.rate.window_seconds

    def learn(self, arrival_at: float, ahead: float, taken: int) -> None:
        """Keep what the database said, and of `taken` all but the one for this request."""
        self._arrival_at, self._ahead, self._count = arrival_at, ahead, max(0, taken - 1)

    def decision(self, *, allowed: bool, now: float) -> Decision:
        """Return the decision on a request, now that it has been taken."""
        interval, filling = self.rate.interval_seconds, max(0.0, self._arrival_at - now)
        there = math.floor((self.rate.window_seconds - filling) / interval + _ROUNDING)
        remaining = min(self.rate.per_minute, self._count + max(0, there)) if allowed else 0
        return Decision(
            allowed=allowed,
            remaining=remaining,
            retry_after_seconds=0.0 if remaining else max(0.0, filling + interval - self.rate.window_seconds),
            reset_seconds=filling,
        )
