"""What has happened to a job, in plain words; and what to do about a failure."""

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

_SENTENCES = {
    "job.queued": "Submitted, with plan {plan}",
    "job.running": "Attempt {attempt} began on GPU {gpu}",
    "job.preempted": "Asked to stop for now",
    "job.reprioritized": "Priority changed to {priority:g}",
    "job.replanned": "Now with plan {plan}: {reason}",
    "job.checkpoint_discarded": "Its checkpoint was discarded: {reason}",
    "job.cancel_requested": "Asked to stop, to be cancelled",
    "job.result_expired": "The video was deleted: its time was over",
}
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
    told = _SENTENCES.get(event.type)
    if event.type == "job.requeued":
        told = _REQUEUED.get(event.data.get("outcome", ""))
    elif event.type == "job.cancel_requested" and event.data.get("reason"):
        told = "Asked to stop: its deadline has passed"
    try:
        sentence = told.format_map(event.data) if told else _plain(event.type)
    except (KeyError, TypeError, ValueError):  # another version's events may say less, or other things
        sentence = _plain(event.type)
    error = event.data.get("error")
    problem = error.get("message") if isinstance(error, dict) else error
    return sentence + (f": {problem}" if problem else "") + (_operators_part(event) if for_operator else "")


def _plain(type_: str) -> str:
    return type_.removeprefix("job.").replace("_", " ").capitalize()


def _operators_part(event: Event) -> str:
    by = f" by {event.actor}" if event.actor and event.type != "job.replanned" else ""
    reason = event.data.get("reason") if event.type == "job.preempted" else None
    return by + (f": {reason}" if reason else "")
