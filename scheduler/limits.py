"""What a tenant may do, as numbers."""

from dataclasses import dataclass, fields
from typing import Self

from scheduler.params import PRIORITY_MAX, PRIORITY_MIN, Range

RATE_MAX = 1_000_000  # a minute
_RANGES = {
    "share": Range(1e-6, 1e6),
    "max_queued": Range(0, 1_000_000),
    "max_running": Range(0, 1_000_000),
    "max_priority": Range(PRIORITY_MIN, PRIORITY_MAX),
    "submits_per_minute": Range(1, RATE_MAX),
    "requests_per_minute": Range(1, RATE_MAX),
}


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """A tenant's share of the fleet, in proportion to the shares of others, and its limits; None: there is none.

    `max_queued` and `max_running` count jobs, the rates count submits, and requests of any kind.
    """

    share: float | None = None
    max_queued: int | None = None
    max_running: int | None = None
    max_priority: float | None = None
    submits_per_minute: int | None = None
    requests_per_minute: int | None = None

    def check(self) -> None:
        """Raise `InvalidParameter` for the first one that is outside its range."""
        for name, limit in _RANGES.items():
            value = getattr(self, name)
            if value is not None:
                limit.check(name, value)

    def over(self, defaults: Self) -> Self:
        """Return these limits, and where there is none that of `defaults`."""
        chosen = {
            name: getattr(defaults, name) if getattr(self, name) is None else getattr(self, name) for name in NAMES
        }
        return type(self)(**chosen)


NAMES = tuple(field.name for field in fields(TenantLimits))
NO_LIMITS = TenantLimits()
