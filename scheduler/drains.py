"""What a drain is told to do, and what it would do to each running job: checks and forecasts. Pure, no I/O.

A job that is released, or whose process is killed, goes back to the queue without losing an attempt, and goes on from
its checkpoint. A worker that gives a job back saves one first; killed, it loses what it did since the last. An attempt
that has saved none yet is forecast as if it never did.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from scheduler.errors import InvalidParameter
from scheduler.params import check_text
from scheduler.records import Drain, Gpu, OpenLease
from scheduler.states import DrainMode, OnDeadline

REASON_MAX_CHARS = 500
_DAY = 86_400.0
MAX_SECONDS = 30 * _DAY  # how far a deadline or a resume may lie ahead


@dataclass(frozen=True, slots=True)
class DrainOrder:
    """How to empty a GPU, and why. Seconds count from the order; None: no deadline, no resume by itself."""

    reason: str
    actor: str
    mode: DrainMode = DrainMode.FINISH
    deadline_seconds: float | None = None
    on_deadline: OnDeadline = OnDeadline.CHECKPOINT
    resume_after_seconds: float | None = None

    def checked(self) -> Self:
        """Return the order with its reason trimmed; raises `InvalidParameter` naming the field and its limit."""
        reason = self.reason.strip()
        check_text("reason", reason, required=True, max_chars=REASON_MAX_CHARS)
        _check_seconds("deadline_seconds", self.deadline_seconds)
        _check_seconds("resume_after_seconds", self.resume_after_seconds)
        deadline, resume = self.deadline_seconds, self.resume_after_seconds
        if deadline is not None and resume is not None and resume <= deadline:
            raise InvalidParameter(
                "resume_after_seconds", f"must be more than deadline_seconds, {deadline:g}, not {resume:g}"
            )
        return replace(self, reason=reason)

    def given_at(self, now: float) -> Drain:
        """Return the drain that the order begins when it is given at `now`."""
        return Drain(
            mode=self.mode,
            asked_at=now,
            deadline_at=None if self.deadline_seconds is None else now + self.deadline_seconds,
            on_deadline=self.on_deadline,
            resume_at=None if self.resume_after_seconds is None else now + self.resume_after_seconds,
        )


class Ending(StrEnum):
    """What a drain makes of a running job."""

    FINISHES = "finishes"
    RELEASED = "released"  # it stops at its next step and goes back to the queue
    KILLED = "killed"  # its process is killed, and it goes back to the queue


@dataclass(frozen=True, slots=True)
class JobForecast:
    """What would become of a running job, and in how many seconds; `lost_seconds` is the run that would be in vain."""

    job_id: str
    ending: Ending
    in_seconds: float
    lost_seconds: float


@dataclass(frozen=True, slots=True)
class DrainPreview:
    """What an order would do to one GPU, by the predictions: when its last job would be gone, and how each ends."""

    gpu_id: str
    empty_in_seconds: float
    jobs: tuple[JobForecast, ...]


def preview(gpu: Gpu, order: DrainOrder, now: float, saved_at: Mapping[str, float]) -> DrainPreview:
    """Forecast what `order`, given at `now`, would do to `gpu`; `saved_at` is when each job's run was last saved."""
    jobs = tuple(_forecast(lease, order, now, saved_at.get(lease.job_id)) for lease in gpu.leases)
    return DrainPreview(gpu.info.id, max((job.in_seconds for job in jobs), default=0.0), jobs)


def _forecast(lease: OpenLease, order: DrainOrder, now: float, saved_at: float | None) -> JobForecast:
    stop = _stop(lease, order)
    if stop is None or lease.remaining_seconds <= stop[1]:
        return JobForecast(lease.job_id, Ending.FINISHES, lease.remaining_seconds, 0.0)
    ending, in_seconds = stop
    if saved_at is None:
        return JobForecast(lease.job_id, ending, in_seconds, now + in_seconds - lease.started_at)
    # Killed at any moment, it loses what it has now; later ones are saved as often.
    return JobForecast(lease.job_id, ending, in_seconds, now - saved_at if ending is Ending.KILLED else 0.0)


def _stop(lease: OpenLease, order: DrainOrder) -> tuple[Ending, float] | None:
    """How and in how many seconds the order stops a job; None where it never does. A release waits for one step."""
    step_seconds = lease.predicted_seconds / max(1, lease.progress.steps)
    if order.mode is DrainMode.CHECKPOINT or lease.release_requested:
        return Ending.RELEASED, step_seconds
    if order.deadline_seconds is None:
        return None
    if order.on_deadline is OnDeadline.KILL:
        return Ending.KILLED, order.deadline_seconds
    return Ending.RELEASED, order.deadline_seconds + step_seconds


def _check_seconds(field: str, seconds: float | None) -> None:
    if seconds is not None and not 0 < seconds <= MAX_SECONDS:  # also refuses NaN
        raise InvalidParameter(field, f"must be more than 0 and at most {MAX_SECONDS:.0f} (30 days), not {seconds:g}")
