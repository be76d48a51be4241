"""What an operator sends."""

from typing import Literal

from pydantic import Field
from pydantic.config import JsonDict

from app.schemas.common import Number, Request
from scheduler.drains import MAX_SECONDS, REASON_MAX_CHARS
from scheduler.params import PRIORITY_MAX, PRIORITY_MIN

# What the scheduler checks, for the documentation alone.
_REASON: JsonDict = {"maxLength": REASON_MAX_CHARS, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"}
_SECONDS: JsonDict = {"exclusiveMinimum": 0, "maximum": MAX_SECONDS}
_FEW_GPUS = Field(min_length=1, max_length=1000, description="Ids of GPUs: all of them, or none where one is not known")


class DrainRequest(Request):
    """Why a GPU is drained, and how. A job that is stopped goes back to the queue, and it costs it no attempt.

    It goes on from its checkpoint, on this GPU or another. A dry run tells the seconds of work that would be lost.
    """

    reason: str = Field(
        description="Shown to everyone who asks why the GPU takes no jobs; 1 to 500 characters",
        json_schema_extra=_REASON,
    )
    mode: Literal["finish", "checkpoint"] = Field(
        "finish", description="`finish`: running jobs end first; `checkpoint`: they stop at their next step"
    )
    deadline_seconds: Number | None = Field(
        None,
        description="When `on_deadline` happens to the jobs that still run; at most 30 days",
        json_schema_extra=_SECONDS,
    )
    on_deadline: Literal["checkpoint", "kill"] = Field(
        "checkpoint", description="`checkpoint`: they stop at their next step; `kill`: their process is killed at once"
    )
    resume_after_seconds: Number | None = Field(
        None,
        description="When the GPU takes jobs again by itself; after the deadline, and at most 30 days",
        json_schema_extra=_SECONDS,
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

    reason: str = Field(
        description="Shown to everyone who asks why nothing starts; 1 to 500 characters", json_schema_extra=_REASON
    )


class JobPatch(Request):
    """What may be changed of a queued job."""

    priority: Number = Field(
        description=f"{PRIORITY_MIN:g} to {PRIORITY_MAX:g}; higher goes first",
        json_schema_extra={"minimum": PRIORITY_MIN, "maximum": PRIORITY_MAX},
    )


class PreemptRequest(Request):
    """Why a running job is to stop for now."""

    reason: str | None = Field(
        None,
        description="Kept in the log of events; at most 500 characters",
        json_schema_extra={"maxLength": REASON_MAX_CHARS, "pattern": r"^[^\x00]*$"},
    )


class HoldRequest(Request):
    """Why the jobs of a model are to wait."""

    reason: str = Field(
        description="Shown to everyone who asks why they wait; 1 to 500 characters", json_schema_extra=_REASON
    )
