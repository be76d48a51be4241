"""What an operator sends."""

from typing import Literal

from pydantic import Field

from app.schemas.common import Number, Request
from scheduler.params import PRIORITY_MAX, PRIORITY_MIN

_FEW_GPUS = Field(min_length=1, max_length=1000, description="Ids of GPUs: all of them, or none where one is not known")


class DrainRequest(Request):
    """Why a GPU is drained, and how. A job that is stopped goes back to the queue, and it costs it no attempt.

    It goes on from its checkpoint, on this GPU or another. A dry run tells the seconds of work that would be lost.
    """

    reason: str = Field(description="Shown to everyone who asks why the GPU takes no jobs")
    mode: Literal["finish", "checkpoint"] = Field(
        "finish", description="`finish`: running jobs end first; `checkpoint`: they stop at their next step"
    )
    deadline_seconds: Number | None = Field(
        None, description="When `on_deadline` happens to the jobs that still run; at most 30 days"
    )
    on_deadline: Literal["checkpoint", "kill"] = Field(
        "checkpoint", description="`checkpoint`: they stop at their next step; `kill`: their process is killed at once"
    )
    resume_after_seconds: Number | None = Field(
        None, description="When the GPU takes jobs again by itself; after the deadline, and at most 30 days"
    )
    dry_run: bool = Field(False, description="Change nothing, and answer with a `preview` of what would happen")


class DrainManyRequest(DrainRequest):
    """The same for several GPUs at once."""

    gpus: list[str] = _FEW_GPUS


class ResumeManyRequest(Request):
    """Which GPUs are to take jobs again."""

    gpus: list[str] = _FEW_GPUS


class PauseRequest(Request):
    """Why the queue is paused."""

    reason: str = Field(description="Shown to everyone who asks why nothing starts; 1 to 500 characters")


class JobPatch(Request):
    """What may be changed of a queued job."""

    priority: Number = Field(description=f"{PRIORITY_MIN:g} to {PRIORITY_MAX:g}; higher goes first")


class PreemptRequest(Request):
    """Why a running job is to stop for now."""

    reason: str | None = Field(None, description="Kept in the log of events; at most 500 characters")


class HoldRequest(Request):
    """Why the jobs of a model are to wait."""

    reason: str = Field(description="Shown to everyone who asks why they wait; 1 to 500 characters")
