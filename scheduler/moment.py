"""What is true at one look at the queue for all jobs of a model and plan, or for all of a tenant. Pure, no I/O."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from scheduler.outlook import Pace
from scheduler.records import Gpu
from scheduler.store.lines import Pause


@dataclass(frozen=True, slots=True)
class Moment:
    """What is true for all jobs of one model and plan at one look: time, pause, and the pace of their attempts.

    `held` says why the jobs of the model wait; None while they do not.
    """

    now: float
    pause: Pause | None
    pace: Pace
    held: str | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """How many jobs the tenant of a job may run at once, and does; in how many seconds it may start one more.

    `free_after` is 0 where it may now, None where nobody can tell.
    """

    limit: int
    running: int
    free_after: float | None


def quota_of(limit: int, running: Collection[str], gpus: Iterable[Gpu], moment: Moment) -> Quota:
    """Return the quota of a tenant that runs these jobs, by how far they are on the fleet's GPUs."""
    if len(running) < limit:
        return Quota(limit, len(running), free_after=0.0)
    left = sorted(
        max(0.0, lease.remaining_seconds * moment.pace.mean - (moment.now - lease.progress_at))
        for gpu in gpus
        for lease in gpu.leases
        if lease.job_id in running
    )
    over = len(running) - limit  # so many must end before one that makes a place
    return Quota(limit, len(running), left[over] if limit > 0 and over < len(left) else None)
