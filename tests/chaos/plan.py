"""What a campaign is to do, and when: drawn from a seed, counted in jobs that have ended."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Deed(StrEnum):
    """What may be done to a running campaign; the last three to a PostgreSQL server only."""

    KILL = "kill"  # SIGKILL to a process, and a new one in its place
    STOP = "stop"  # SIGSTOP past the lease, then SIGCONT
    RESTART = "restart, fast"
    CRASH = "restart, immediate"
    TERMINATE = "connections terminated"


OUTAGES = (Deed.RESTART, Deed.CRASH, Deed.TERMINATE)


@dataclass(frozen=True, slots=True)
class Plan:
    """How many jobs there are, and how much is done to those who work on them."""

    jobs: int
    seed: int
    kills: int = 0
    stops: int = 0
    outages: tuple[Deed, ...] = ()  # in this order

    def schedule(self, dice: Random) -> list[tuple[int, Deed]]:
        """Return what to do once so many jobs have ended: outages evenly spread, the rest at random."""
        drawn = [Deed.KILL] * self.kills + [Deed.STOP] * self.stops
        moments = [(dice.randrange(self.jobs * 95 // 100), deed) for deed in drawn]
        share = self.jobs // (len(self.outages) + 1)
        return sorted(moments + [(share * number, deed) for number, deed in enumerate(self.outages, start=1)])
