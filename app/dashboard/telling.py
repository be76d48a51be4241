"""What has happened to a job, in plain words; and what to do about a failure."""

from collections.abc import Mapping
from typing import Any

from scheduler.events import Event

_ADVICE = {
    "out_of_memory": "Ask for fewer frames or a smaller picture, or allow int8 weights. A GPU with more memory would "
    "take it as it is.",
    "unschedulable": "Ask for fewer frames or a smaller picture, or allow int8 weights. Otherwise it needs a GPU with "
    "more memory.",
    "input_unreadable": "The stored copy of its image cannot be read. Submit it anew, with the image.",
    "storage_full": "Retry it once the operator has made room on the disk.",
    "store_unreachable": "Retry it once the database and the files can be reached again.",
    "numerical_error": "The model's numbers were not finite. Retry it with another seed or a lower guidance scale.",
    "deadline_exceeded": "Retry it, which it then does without a deadline; a higher priority would start it sooner.",
    "worker_lost": "Retry it. If it is lost again, the worker's log says what has ended the process.",
    "worker_hung": "Retry it. If it hangs again, look at the GPU: it may be at fault.",
    "internal_error": "Retry it. If it fails again, the worker's log has the details under the job's id.",
}
_OTHERWISE = "Retry it, as it is or with changes."

_REQUEUED = {
    "released": "Given back to the queue; it costs no attempt",
    "retried": "Back in the queue after an error",
    "expired": "Back in the queue: its worker died or fell silent",
}


def advice(code: str) -> str:
    """Return what to do about a job that failed with an error of this code."""
    return _ADVICE.get(code, _OTHERWISE)


def words(event: Event, *, for_operator: bool) -> str:
    """Return what an event of a job says, in a sentence without its full stop.

    Who did something as the operator, and why, only the operator is told.
    """
    data = event.data
    by = f" by {event.actor}" if for_operator and event.actor else ""
    why = f": {data['reason']}" if for_operator and data.get("reason") else ""
    match event.type:
        case "job.queued":
            return f"Submitted, with plan {data['plan']}"
        case "job.running":
            return f"Attempt {data['attempt']} began on GPU {data['gpu']}"
        case "job.requeued":
            return _REQUEUED.get(data["outcome"], "Back in the queue") + _error(data)
        case "job.preempted":
            return f"Asked to stop for now{by}{why}"
        case "job.reprioritized":
            return f"Priority changed to {data['priority']:g}{by}"
        case "job.replanned":
            return f"Now with plan {data['plan']}: {data['reason']}"
        case "job.checkpoint_discarded":
            return f"Its checkpoint was discarded: {data['reason']}"
        case "job.cancel_requested":
            return "Asked to stop: its deadline has passed" if data.get("reason") else "Asked to stop, to be cancelled"
        case "job.result_expired":
            return "The video was deleted: its time was over"
        case _:
            return event.type.removeprefix("job.").replace("_", " ").capitalize() + _error(data)


def _error(data: Mapping[str, Any]) -> str:
    error = data.get("error")
    return f": {error['message']}" if error else ""
