"""Whether one more job may share a forward pass: only where measured throughput gains. Pure, no I/O.

A pass of `k` jobs that takes `t(k)` seconds makes `k / t(k)` steps a second. One more is let in to try, once; from then
on only where that rate was higher by `GAIN`. A size that ran out of memory is not tried again in this process.
"""

import statistics
from collections import defaultdict, deque
from collections.abc import Hashable

GAIN = 1.05  # below that, finishing the first job sooner is worth more
_KEPT = 32
_ENOUGH = 3  # passes of one size to know its time; the first may have picked kernels, and the median does not mind


class Sharing:
    """What this process has learned about passes of each kind (shape and plan), and the rule that follows."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seconds: dict[tuple[Hashable, int], deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))
        self._too_large: dict[Hashable, int] = {}

    def passed(self, kind: Hashable, jobs: int, seconds: float) -> None:
        """Record one pass of `jobs` jobs."""
        self._seconds[kind, jobs].append(seconds)

    def ran_out(self, kind: Hashable, jobs: int) -> None:
        """Record that `jobs` jobs together did not fit, or failed together."""
        self._too_large[kind] = min(jobs, self._too_large.get(kind, jobs))

    def may_join(self, kind: Hashable, running: int) -> bool:
        """Tell whether one more may join `running` jobs."""
        joined = running + 1
        if joined > self._most or joined >= self._too_large.get(kind, joined + 1):
            return False
        now, then = self.step_seconds(kind, running), self.step_seconds(kind, joined)
        if now is None:
            return False  # not before there is something to compare with
        return then is None or joined / then > GAIN * running / now

    def step_seconds(self, kind: Hashable, jobs: int) -> float | None:
        """Return the median seconds of a pass of `jobs` jobs, None before enough of them."""
        seen = self._seconds.get((kind, jobs), ())
        return statistics.median(seen) if len(seen) >= _ENOUGH else None

    def gain(self, kind: Hashable, jobs: int) -> float | None:
        """Return the throughput of `jobs` in one pass over that of one at a time, None where it is not known."""
        alone, together = self.step_seconds(kind, 1), self.step_seconds(kind, jobs)
        return None if alone is None or together is None else jobs * alone / together
