"""The numbers that steer the queue, with their defaults; settings fill them in."""

from dataclasses import dataclass
from enum import StrEnum

from scheduler.limits import NO_LIMITS, TenantLimits
from scheduler.windows import Windows

MIB = 2**20
_DAY = 86_400.0


class Order(StrEnum):
    """What the queue is ordered by; see `rank.rank`."""

    WEIGHTED = "weighted"  # seconds / GiB * priority, with ageing
    FIFO = "fifo"
    SHORTEST_FIRST = "shortest_first"  # priority / seconds, with ageing


@dataclass(frozen=True, slots=True)
class Policy:
    """How the queue orders, leases, retries and refuses. Durations are seconds."""

    order: Order = Order.WEIGHTED
    tau_seconds: float = 600.0  # ageing: see rank.rank
    memory_class_bytes: int = 64 * MIB  # footprints are rounded up to a multiple of this
    lease_seconds: float = 10.0  # silence after which an attempt counts as dead
    worker_ttl_seconds: float = 10.0  # silence after which a worker or GPU counts as gone
    gpu_memory_seconds: float = _DAY  # how long a GPU that left still counts as part of the fleet
    max_attempts: int = 3
    retry_base_seconds: float = 1.0  # first retry; doubles each time, with jitter
    retry_cap_seconds: float = 60.0
    max_queued: int = 10_000
    tenant_limits: TenantLimits = NO_LIMITS  # of a tenant that has none of its own
    unschedulable_grace_seconds: float = 60.0  # a larger GPU may still be registering
    off_peak: Windows | None = None  # when jobs of the off-peak window may start; None: at any time
    reserve_after_seconds: float = 300.0  # a job that memory holds back for longer gets a GPU reserved
    backfill_depth: int = 32  # jobs of each memory class that are looked at for one that ends in time
    backfill_slack: float = 1.25  # estimates err: a backfilled job must end in time even if it takes so much longer
    hang_factor: float = 20.0  # an attempt hangs when a step takes so many times what was predicted,
    hang_seconds: float = 120.0  # and at least this long
    retention_seconds: float = 90 * _DAY  # how long ended jobs, their files and events are kept
    result_seconds: float | None = None  # how long videos are kept; None: as long as their jobs
    webhook_patience_seconds: float = 5 * _DAY  # an endpoint to which nothing could be delivered so long is disabled

    def retry_delay_seconds(self, attempts: int, jitter: float) -> float:
        """Return the wait before attempt `attempts + 1`; `jitter` in [0, 1) spreads it over its upper half."""
        doubled = self.retry_base_seconds * 2.0 ** min(attempts - 1, 64)  # beyond, the power would overflow
        full = min(self.retry_cap_seconds, doubled)
        return full * (0.5 + 0.5 * jitter)

    def hang_after_seconds(self, predicted_seconds: float, steps: int) -> float:
        """Return how long an attempt may go without progress before it counts as hung."""
        return max(self.hang_seconds, self.hang_factor * predicted_seconds / max(1, steps))
