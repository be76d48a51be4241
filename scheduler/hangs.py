"""Workers that have to be replaced: heard, but stuck in a job; or alive as a process, but heard no longer. No I/O.

A worker runs the leases of one lane one after another. One that waits for its turn is as stuck as the one before it.

Times are seconds since 1970, by the database's clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from scheduler.policy import Policy
from scheduler.records import JobError, Progress
from scheduler.states import Stage

WORKER_HUNG = "worker_hung"
_ON_GPU = frozenset({Stage.ENCODING, Stage.DENOISING, Stage.DECODING})
_SILENT_LEASES = 3.0  # lease times of silence after which a process that lives is taken for stuck


@dataclass(frozen=True, slots=True)
class Stint:
    """An open lease with what tells whether its worker is stuck."""

    job_id: str
    gpu_id: str
    worker_id: str
    lane: int
    predicted_seconds: float
    expires_at: float
    release_requested_at: float | None
    progress_at: float
    progress: Progress


@dataclass(frozen=True, slots=True)
class WorkerLook:
    """One look at a worker: when, when it was last heard (None: given up), what it was condemned for, what it runs."""

    at: float
    seen_at: float | None
    condemned: str | None
    stints: tuple[Stint, ...]


class Vigil:
    """Since when somebody has looked again and again, without a break longer than `pause_seconds`.

    During a break (the store was away, the machine slept) nobody could show progress, so only what happened since
    counts against a worker.
    """

    def __init__(self, pause_seconds: float) -> None:
        self._pause_seconds = pause_seconds
        self._began_at: float | None = None
        self._looked_at = 0.0

    def since(self, now: float) -> float:
        """Note a look at `now`; returns when the looks without a break began."""
        if self._began_at is None or now - self._looked_at > self._pause_seconds:
            self._began_at = now
        self._looked_at = now
        return self._began_at


def why_hung(
    stint: Stint,
    policy: Policy,
    now: float,
    since: float,
    *,
    beside: Iterable[Stint] = (),
    grace_seconds: float = 0.0,
) -> str | None:
    """Say why an attempt counts as hung, None while it does not; what was before `since` does not count.

    It hangs when it has made no progress, or has not given back a job that it was asked for, for as long as
    `Policy.hang_after_seconds` says and `grace_seconds` more. One that still loads may be waiting for another one
    `beside` it, of its worker and lane, whose progress then counts as its own; so does, for one that is on the GPU,
    that of its worker's others there, which one thread serves. An attempt whose lease has run out is lost, not hung.
    """
    if stint.expires_at < now:
        return None
    limit = policy.hang_after_seconds(stint.predicted_seconds, stint.progress.steps)
    idle = now - max(_progress_at(stint, beside), since)
    if idle > limit + grace_seconds:
        at = f"{stint.progress.stage.value}, step {stint.progress.step} of {stint.progress.steps}"
        return f"no progress for {idle:.0f} s, limit {limit:.0f} s, at {at}"
    if stint.release_requested_at is not None:
        waited = now - max(stint.release_requested_at, since)
        if waited > limit + grace_seconds:
            return f"the job was not given back within {waited:.0f} s, limit {limit:.0f} s"
    return None


def _progress_at(stint: Stint, beside: Iterable[Stint]) -> float:
    stage = stint.progress.stage
    own = [each for each in beside if each.worker_id == stint.worker_id]
    shared = [
        each.progress_at
        for each in own
        if (stage is Stage.LOADING and each.lane == stint.lane) or (stage in _ON_GPU and each.progress.stage in _ON_GPU)
    ]
    return max([stint.progress_at, *shared])


class WorkerWatch:
    """What a supervisor makes of one worker process from looking at it again and again."""

    def __init__(self, policy: Policy, pause_seconds: float) -> None:
        self._policy = policy
        self._vigil = Vigil(pause_seconds)
        self._heard_at: float | None = None

    def verdict(self, look: WorkerLook, *, ready: bool) -> JobError | None:
        """Return why the process has to be killed, as the error of the attempt it takes along; None: it is well.

        One that is not `ready` may be silent for longer: libraries that load from a cold disk stop its heartbeat too.
        """
        since = self._vigil.since(look.at)
        if look.seen_at is not None:
            self._heard_at = look.seen_at
        if look.condemned is not None:
            return JobError(WORKER_HUNG, look.condemned)
        for stint in look.stints:
            if (why := why_hung(stint, self._policy, look.at, since, beside=look.stints)) is not None:
                return JobError(WORKER_HUNG, why)
        if self._heard_at is None:  # it has not registered yet
            return None
        silence = look.at - max(self._heard_at, since)
        limit = _SILENT_LEASES * self._policy.lease_seconds
        if silence > (limit if ready else max(limit, self._policy.hang_seconds)):
            return JobError("worker_lost", f"the worker's process lives, but was silent for {silence:.0f} s")
        return None
