"""What a queued job waits for, as it is told: a stable code, a sentence and its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Blocker(StrEnum):
    """What a job waits for; the first that holds is the one told."""

    NO_GPU = "no_gpu"  # no GPU runs its model with its plan
    TOO_LARGE = "too_large"  # no GPU could hold it, even alone
    QUEUE_PAUSED = "queue_paused"
    MODEL_HELD = "model_held"  # its model has failed too often, or an operator holds it
    DRAINING = "draining"  # all GPUs that fit are draining, drained or faulted
    WINDOW = "window"  # the window that its caller asked for is closed
    NOT_BEFORE = "not_before"  # its caller's wish
    RETRY_BACKOFF = "retry_backoff"
    NO_WORKER = "no_worker"  # no process is ready on a GPU that fits
    MEMORY_UNKNOWN = "memory_unknown"
    TENANT_LIMIT = "tenant_limit"  # its tenant runs as many jobs as it may
    DISPATCHING = "dispatching"  # nothing but the jobs ahead of it
    RESERVATION = "reservation"  # a GPU is kept for it
    RESERVED = "reserved"  # the GPU with room is kept for an older job
    NO_FREE_MEMORY = "no_free_memory"  # our own jobs and processes hold it
    FOREIGN_MEMORY = "foreign_memory"  # somebody else does
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class WaitReason:
    """What holds a job back: a stable code, a line for people, the numbers, and what would clear it.

    `details` goes into JSON as it is, but for times: those end in `_at`, and are seconds since 1970.
    """

    code: Blocker
    message: str
    clears_when: str
    details: Mapping[str, Any] = field(default_factory=dict)
