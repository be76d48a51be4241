"""How many GPUs there should be for the work that is due, and what follows from that. Pure, no I/O.

What is counted are GPUs in service: online, and neither drained nor faulted. They are let go host by host, because what
stops a machine stops all of its GPUs.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_MOST_DOUBLINGS = 6  # of the time that is waited for what was started, where nothing ever comes
CAPACITY = "capacity"  # who drains and resumes GPUs here, and the subject of its events


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings say; GPUs are counted, and times are seconds."""

    minimum: int = 0
    maximum: int = 1
    target_seconds: float = 300.0  # within which what is due should be worked off
    cooldown_seconds: float = 600.0  # how long what was started may take to come
    idle_seconds: float = 600.0  # how long fewer must have been wanted before one is let go


@dataclass(frozen=True, slots=True)
class Work:
    """Jobs that could run now or do, and the seconds that one GPU needs for them."""

    jobs: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.jobs + other.jobs, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True)
class Host:
    """GPUs of one host that are let go, or taken back, together.

    `remaining_seconds` is what is left of the longest job there, `hour_cost` what its GPUs cost, where that is known.
    """

    name: str
    gpus: tuple[str, ...]
    remaining_seconds: float = 0.0
    hour_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Start:
    """The last start that was asked for: when it was done (None: not yet), and whether what it was for has come.

    `in_vain` is how many starts before it, one after another, have never brought what they were for.
    """

    done_at: float | None
    arrived: bool = False
    in_vain: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """How things are. `known` is False while there is no GPU in service, and none known that could be started.

    `work` is all that is due; what of it none of the GPUs in service could hold is `stranded`. `removable` are hosts
    in service that may be let go, `returnable` those that are being emptied and could be taken back.
    """

    now: float
    open: bool = True
    known: bool = True
    work: Work = Work()
    stranded: Work = Work()
    online: int = 0
    removable: Sequence[Host] = ()
    returnable: Sequence[Host] = ()
    last_start: Start | None = None


@dataclass(frozen=True, slots=True)
class Lull:
    """Since when fewer GPUs are wanted than there are, and the most that were wanted in that time."""

    since: float
    peak: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What is wanted, why, and what to do for it: GPUs to resume and to drain, by id, and how many more to start.

    `missing` is how many there are too few when that is done, those to be started among them.
    """

    wanted: int
    reason: str
    missing: int = 0
    resume: tuple[str, ...] = ()
    start: int = 0
    drain: tuple[str, ...] = ()
    lull: Lull | None = None


def decide(look: Look, lull: Lull | None, limits: Limits) -> Decision:
    """Return what follows from a look; `lull` is what the decision before this one said."""
    wanted, reason = _wanted(look, limits)
    beyond = _needed(look.stranded, limits) if look.open else 0  # what is there does not help these
    missing = max(wanted - look.online, min(beyond, limits.maximum - look.online))
    taken = _taken_back(look.returnable, missing)
    missing = max(0, missing - sum(len(host.gpus) for host in taken))
    lull, surplus = _lull(look, wanted, lull, limits)
    return Decision(
        wanted=wanted,
        reason=reason,
        missing=missing,
        resume=tuple(gpu for host in taken for gpu in host.gpus),
        start=0 if is_coming(look.last_start, look.now, limits) else missing,
        drain=tuple(gpu for host in _let_go(look.removable, surplus) for gpu in host.gpus),
        lull=lull,
    )


def is_coming(last: Start | None, now: float, limits: Limits) -> bool:
    """Tell whether to wait for what was asked for, instead of asking again: until it is there, or is overdue."""
    if last is None:
        return False
    return last.done_at is None or (not last.arrived and now < last.done_at + patience_seconds(last, limits))


def patience_seconds(last: Start, limits: Limits) -> float:
    """Return how long to wait for what was started: twice as long after each start in vain.

    A machine that starts, but never comes into service, is paid for and not known here, so that nobody stops it.
    """
    return limits.cooldown_seconds * 2.0 ** min(last.in_vain, _MOST_DOUBLINGS)


def _wanted(look: Look, limits: Limits) -> tuple[int, str]:
    if not look.open:
        return limits.minimum, f"outside of its windows, {limits.minimum} at least"
    if not look.known:
        return max(1, limits.minimum), "no GPU is known: one has to come for jobs to be accepted"
    needed = _needed(look.work, limits)
    wanted = min(limits.maximum, max(limits.minimum, needed))
    if needed == 0:
        return wanted, f"nothing is due, {limits.minimum} at least"
    bound = "" if wanted == needed else f", {limits.minimum} at least and {limits.maximum} at most"
    return wanted, (
        f"{_count(look.work.jobs, 'job')} due, {look.work.seconds:.0f} s of work: {_count(needed, 'GPU')} to work it"
        f" off in {limits.target_seconds:g} s{bound}"
    )


def _needed(work: Work, limits: Limits) -> int:
    """How many GPUs work it off in time; never more than there are jobs, for one job gains nothing by a second GPU."""
    return min(work.jobs, math.ceil(work.seconds / limits.target_seconds))


def _lull(look: Look, wanted: int, lull: Lull | None, limits: Limits) -> tuple[Lull | None, int]:
    """The lull that goes on, and how many GPUs may be let go now: what was too much all the time that it lasted."""
    if wanted >= look.online:
        return None, 0
    if lull is None:
        return Lull(look.now, wanted), 0
    peak = max(lull.peak, wanted)
    if look.now - lull.since < limits.idle_seconds:
        return Lull(lull.since, peak), 0
    return Lull(look.now, wanted), look.online - peak


def _taken_back(hosts: Iterable[Host], missing: int) -> list[Host]:
    """The hosts to take back until so many GPUs are there: first those with the most left to do."""
    found: list[Host] = []
    for host in sorted(hosts, key=lambda host: (-host.remaining_seconds, host.name)):
        if missing > 0:
            found.append(host)
            missing -= len(host.gpus)
    return found


def _let_go(hosts: Iterable[Host], surplus: int) -> list[Host]:
    """The hosts to let go, at most so many GPUs: idle ones first, then those with the least left to do."""
    found: list[Host] = []
    for host in sorted(hosts, key=lambda host: (host.remaining_seconds, -host.hour_cost, host.name)):
        if len(host.gpus) <= surplus:
            found.append(host)
            surplus -= len(host.gpus)
    return found


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
