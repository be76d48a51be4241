"""A job in words: one place that says what each state looks like to the person waiting."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from app.formats import duration, money, percent

ENDED = frozenset({"succeeded", "failed", "cancelled"})


def headline(job: Mapping[str, Any]) -> str:
    """Return what the job is doing: its stage while it runs, else its status."""
    if job["status"] == "running":
        return str(job["stage"] or "running")
    return str(job["status"])


def steps(job: Mapping[str, Any]) -> str:
    """Return `step 21/50` for a job that runs, else nothing."""
    progress = job["progress"]
    return f"step {progress['step']}/{progress['steps']}" if job["status"] == "running" else ""


def fraction(job: Mapping[str, Any]) -> float:
    """Return how much of the job is done, in [0, 1]."""
    return float(job["progress"]["fraction"])


def note(job: Mapping[str, Any]) -> str:
    """Return why the job waits, or what there is to know about its run; may be empty."""
    if job["status"] == "queued":
        return _waiting(job["queue"]) if job["queue"] else ""
    if job["status"] == "failed":
        return problem(job)
    parts = []
    if job["attempts"] > 1:
        parts.append(f"attempt {job['attempts']} of {job['max_attempts']}")
    if job["resumed_from_step"]:
        parts.append(f"resumed from step {job['resumed_from_step']}")
    return ", ".join(parts)


def line(job: Mapping[str, Any]) -> str:
    """Return the job's state on one line."""
    words = [headline(job)]
    if job["status"] == "running":
        words += [percent(fraction(job)), steps(job)]
    text = " ".join(word for word in words if word)
    return f"{text}: {note(job)}" if note(job) else text


def problem(job: Mapping[str, Any]) -> str:
    """Return why a job did not succeed, in one line."""
    error = job["error"]
    return f"{error['message']} ({error['code']})" if error else f"the job was {job['status']}"


def place(queue: Mapping[str, Any]) -> str:
    """Return a queued job's position; `~` says that it is estimated."""
    return f"{'' if queue.get('position_exact', True) else '~'}{queue['position']}"


def outlook(job: Mapping[str, Any]) -> dict[str, str]:
    """Return what a queued job waits for, and when it should start and end; empty for another job."""
    queue = job["queue"]
    if not queue or "wait" not in queue:  # a front end older than this command
        return {}
    start, finish = queue["expected_start"], queue["expected_finish"]
    words = {"until": str(queue["wait"]["clears_when"])}
    if start and finish:
        # By the server's clock: the one here may be off.
        now = datetime.fromisoformat(start["p50"]) - timedelta(seconds=queue["eta_seconds"])
        words |= {"starts": _expected(start, now), "ends": _expected(finish, now)}
    return words


def quote(estimate: Mapping[str, Any]) -> dict[str, str]:
    """Return where a job would stand in the line, when it should start and end, and its cost; what is known of it."""
    words = {}
    if estimate.get("position") is not None:
        words["position"] = place(estimate)
    now = datetime.now(UTC)
    for name, key in (("starts", "expected_start"), ("ends", "expected_finish")):
        if estimate.get(key):
            words[name] = _expected(estimate[key], now)
        elif name == "starts" and estimate.get("wait_reason"):
            words[name] = f"unknown: {estimate['wait_reason']}"
    if estimate.get("cost") is not None:
        words["cost"] = money(estimate["cost"])
    return words


def _waiting(queue: Mapping[str, Any]) -> str:
    parts = [f"position {place(queue)}", str(queue["wait_reason"])]
    if queue["eta_seconds"] is not None and queue["eta_seconds"] >= 1:
        parts.append(f"starts in about {duration(queue['eta_seconds'])}")
    return "; ".join(parts)


def _expected(span: Mapping[str, str], now: datetime) -> str:
    p50, p90 = (duration(max(0.0, (datetime.fromisoformat(span[key]) - now).total_seconds())) for key in ("p50", "p90"))
    return f"in about {p50}, and in 9 of 10 cases within {p90}"
