"""The numbers that steer the queue, with their defaults; settings fill them in."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Policy:
    """How the queue orders, leases, retries and refuses. Durations are seconds."""

    tau_seconds: float = 600.0  # ageing: see rank.rank
    memory_class_bytes: int = 64 * MIB  # footprints are rounded up to a multiple of this
    lease_seconds: float = 10.0  # silence after which an attempt counts as dead
    worker_ttl_seconds: float = 10.0  # silence after which a worker or GPU counts as gone
    gpu_memory_seconds: float = 86_400.0  # how long a GPU that left still counts as part of the fleet
    max_attempts: int = 3
    retry_base_seconds: float = 1.0  # first retry; doubles each time, with jitter
    retry_cap_seconds: float = 60.0
    max_queued: int = 10_000
    unschedulable_grace_seconds: float = 60.0  # a larger GPU may still be registering

    def retry_delay_seconds(self, attempts: int, jitter: float) -> float:
        """Return the wait before attempt `attempts + 1`; `jitter` in [0, 1) spreads it over its upper half."""
        doubled = self.retry_base_seconds * 2.0 ** min(attempts - 1, 64)  # beyond, the power would overflow
        full = min(self.retry_cap_seconds, doubled)
        return full * (0.5 + 0.5 * jitter)
