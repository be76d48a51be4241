"""The states of a job and of a GPU, and which moves exist. One enum each, one table."""

from enum import StrEnum


class JobStatus(StrEnum):
    """A job's state, as the database and the API spell it."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the job can never change again."""
        return not TRANSITIONS[self]


class Stage(StrEnum):
    """What a running job is doing."""

    LOADING = "loading"
    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"
    MUXING = "muxing"


class Window(StrEnum):
    """A part of the time, in which a job that asks for it may start."""

    OFF_PEAK = "off_peak"


class Outcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the job failed with it
    RETRIED = "retried"  # an error; the job went back to the queue, attempt burned
    RELEASED = "released"  # shutdown, drain or preemption; no attempt burned
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # the worker died or fell silent


class Source(StrEnum):
    """Where an observation of a footprint comes from."""

    CALIBRATION = "calibration"
    ATTEMPT = "attempt"
    OUT_OF_MEMORY = "out_of_memory"  # a lower bound only


class GpuState(StrEnum):
    """A GPU's administrative state (Slurm's words for drain)."""

    ACTIVE = "active"
    DRAINING = "draining"
    DRAINED = "drained"
    FAULTED = "faulted"


class Directive(StrEnum):
    """What a worker hears when it reports."""

    CONTINUE = "continue"
    CANCEL = "cancel"  # the caller wants the job no more
    RELEASE = "release"  # give the job back to the queue, unharmed


class DrainMode(StrEnum):
    """What a drain does with running jobs."""

    FINISH = "finish"  # they end first
    CHECKPOINT = "checkpoint"  # they stop at their next step and go back to the queue


class OnDeadline(StrEnum):
    """What a drain does with jobs that still run at its deadline."""

    CHECKPOINT = "checkpoint"
    KILL = "kill"  # their process is killed; the jobs go back to the queue


class CapacityAction(StrEnum):
    """What the hook for capacity is called for."""

    START = "start"
    STOP = "stop"


TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    # claim, cancel, and the reaper's verdict on a job that fits no GPU or is past its deadline
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED, JobStatus.FAILED}),
    # release and retry go back to the queue
    JobStatus.RUNNING: frozenset({JobStatus.QUEUED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
