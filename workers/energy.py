"""Energy by job: the GPU's counter, split over the jobs that used it together. Pure but for the counter it is given."""

from collections.abc import Callable, Collection, Hashable


class EnergyAccount:
    """Charges what the counter gains between two turns, in equal parts, to those that ran in between.

    `read` returns the counter in joules, or None where the device has none; then nothing is charged, and `total` is
    None. What the GPU uses while nobody runs is nobody's.
    """

    def __init__(self, read: Callable[[], float | None]) -> None:
        self._read = read
        self._before: float | None = None
        self._running: tuple[Hashable, ...] = ()
        self._charged: dict[Hashable, float] = {}

    def turn(self, running: Collection[Hashable]) -> None:
        """Charge those that ran until now; from now on `running` do."""
        if tuple(running) == self._running:
            return  # a reading takes time, and nothing has to be divided yet
        now = self._read()
        if now is not None and self._before is not None and now >= self._before and self._running:
            part = (now - self._before) / len(self._running)
            for one in self._running:
                self._charged[one] = self._charged.get(one, 0.0) + part
        self._before, self._running = now, tuple(running)

    def close(self, one: Hashable) -> float | None:
        """Return what `one` was charged in all, and forget it; None where nothing could be read."""
        return self._charged.pop(one, None)
