"""What a campaign found, ready to show."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.plan import OUTAGES, Deed

_RATE_SECONDS = 2.0  # over which the throughput before an outage is taken


@dataclass(frozen=True, slots=True)
class Report:
    """What was counted and measured, and each broken rule in one line.

    `back_seconds` has for each outage how long it took until throughput was half of what it had been; None: never so.
    """

    counts: dict[str, int]
    back_seconds: list[tuple[Deed, float | None]]
    run_seconds: float
    violations: list[str]

    def rows(self) -> list[tuple[str, str]]:
        """Return all of it as names and values."""
        return [
            *((name, f"{count:,}") for name, count in self.counts.items()),
            *((f"back after {outage}, s", after) for outage in OUTAGES if (after := self._after(outage))),
            ("run, s", f"{self.run_seconds:.0f}"),
            ("rules broken", f"{len(self.violations):,}"),
        ]

    def _after(self, outage: Deed) -> str:
        after = [seconds for each, seconds in self.back_seconds if each is outage]
        return " ".join("never" if seconds is None else f"{seconds:.1f}" for seconds in after)


def back_seconds(succeeded_at: Sequence[float], moment: float) -> float | None:
    """Return when, after `moment`, a second began that saw half of the successes of the seconds before; None: never."""
    before = bisect.bisect(succeeded_at, moment)
    in_the_last = before - bisect.bisect(succeeded_at, moment - _RATE_SECONDS)
    half = max(1, round(in_the_last / _RATE_SECONDS / 2))
    for index in range(before, len(succeeded_at) - half + 1):
        if succeeded_at[index + half - 1] - succeeded_at[index] <= 1.0:
            return succeeded_at[index] - moment
    return None
