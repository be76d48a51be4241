"""What a failure is called: a stable code and one line for callers. The details stay in the log."""

from scheduler.errors import SchedulerError, StorageFull, StoreUnreachable
from scheduler.records import JobError

INTERNAL_ERROR = "internal_error"  # a failure that nobody foresaw
INPUT_UNREADABLE = "input_unreadable"
NUMERICAL_ERROR = "numerical_error"
NUMERICAL_FALLBACK = "numerical_fallback"  # a notice, no failure
OUT_OF_MEMORY = "out_of_memory"


class UnreadableInput(Exception):
    """The job's stored image is missing or broken: no attempt could succeed."""


class NumericalFailure(ArithmeticError):
    """The model's numbers are not finite, and no safer precision is left to try."""


def describe(failure: Exception) -> JobError:
    """Return the failure as callers may see it."""
    from workers.pipelines import runtime

    if isinstance(failure, UnreadableInput):
        return JobError(INPUT_UNREADABLE, str(failure))
    if isinstance(failure, StorageFull):
        return JobError("storage_full", str(failure))
    if isinstance(failure, StoreUnreachable):
        # What the store's driver says, hosts and users in it, is for the log.
        return JobError("store_unreachable", "the database or the blob store could not be used")
    if isinstance(failure, NumericalFailure):
        return JobError(NUMERICAL_ERROR, str(failure))
    if runtime.is_out_of_memory(failure):
        return JobError(OUT_OF_MEMORY, "the GPU ran out of memory although the estimate fitted")
    return JobError(INTERNAL_ERROR, f"the worker failed with {type(failure).__name__}")


def is_unexpected(failure: Exception) -> bool:
    """Tell whether the log should have the traceback: where its words are not all in the job."""
    foreseen = isinstance(failure, SchedulerError | UnreadableInput | NumericalFailure)
    return not foreseen or isinstance(failure, StoreUnreachable)
