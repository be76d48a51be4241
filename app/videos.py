"""Between OpenAI's Videos format and jobs: names and numbers. Pure, no I/O."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from app.errors import RequestError
from app.schemas import JobFields, VideoError, VideoFields, VideoJob
from scheduler.catalog import Architecture
from scheduler.errors import InvalidParameter
from scheduler.records import Job
from scheduler.states import JobStatus

CANCELLED = "cancelled"
IMAGE, SIZE = "input_reference", "size"
_NESTED = re.compile(r"([a-z_]+)\[([^\[\]]*)\]")
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_SECONDS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?")
_LEAST_POLL_MS, _MOST_POLL_MS = 250, 5000
_POLLS = 10  # about how often a client looks until its video is there: it keeps to the first answer's pause

_Status = Literal["queued", "in_progress", "completed", "failed"]
_STATUSES: dict[JobStatus, _Status] = {
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "in_progress",
    JobStatus.SUCCEEDED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "failed",  # clients stop polling at no other word
}


def video(job: Job) -> VideoJob:
    """Return a job as OpenAI's clients read it."""
    params = job.params
    return VideoJob(
        id=job.id,
        model=job.model,
        status=_STATUSES[job.status],
        progress=_percent(job),
        created_at=int(job.created_at),
        completed_at=_whole(job.finished_at),
        expires_at=_whole(job.result.expires_at) if job.result else None,
        error=_error(job),
        prompt=job.prompt,
        seconds=f"{params.num_frames / params.target_fps:.4g}",
        size=f"{params.width}x{params.height}",
    )


def poll_after_ms(job: Job, eta_seconds: float | None) -> int:
    """Return after how many milliseconds to look again; `eta_seconds` is the time until its start, None if unknown."""
    if eta_seconds is None:
        return _MOST_POLL_MS
    done = job.progress.fraction if job.progress else 0.0
    left = eta_seconds + (1.0 - done) * job.footprint.seconds
    return round(min(max(1000 * left / _POLLS, _LEAST_POLL_MS), _MOST_POLL_MS))


def unbracketed(pairs: Iterable[tuple[str, str]]) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Part the plain fields of a form from those that together are an object (`metadata[key]`) or a list (`names[]`).

    Raises `InvalidParameter` for what is given more than once.
    """
    plain: list[tuple[str, str]] = []
    nested: dict[str, Any] = {}
    for name, text in pairs:
        match = _NESTED.fullmatch(name)
        if match is None:
            plain.append((name, text))
            continue
        outer, key = match.groups()
        inner = nested.setdefault(outer, {} if key else [])
        if isinstance(inner, list) and not key:
            inner.append(text)
        elif isinstance(inner, dict) and key and key not in inner:
            inner[key] = text
        else:
            raise InvalidParameter(name, "must be given only once, as an object or as a list")
    if twice := nested.keys() & {name for name, _ in plain}:
        raise InvalidParameter(min(twice), "must be given only once")
    return plain, nested


def job_fields(asked: VideoFields, architecture: Architecture) -> JobFields:
    """Return the job that is meant on a model of `architecture`; raises `InvalidParameter`."""
    given = asked.model_dump(exclude={"seconds", "size"}, exclude_unset=True)
    if asked.size is not None:
        given |= _sides(asked, asked.size)
    if asked.seconds is not None:
        given |= _frames(asked, asked.seconds, architecture)
    return JobFields.model_validate(given)


@contextmanager
def callers_words(names: Mapping[str, str]) -> Iterator[None]:
    """Let refusals name what the caller has sent: `names` maps the fields of a job to those it was made of."""
    try:
        yield
    except InvalidParameter as error:
        if error.field not in names:
            raise
        given, rest = names[error.field], str(error).removeprefix(error.field)
        raise InvalidParameter(given, f"has a {error.field} that{rest}" if given == SIZE else rest.lstrip()) from None
    except RequestError as error:
        if error.field is None or error.field not in names:
            raise
        given = names[error.field]
        message = given + error.detail.removeprefix(error.field)
        raise RequestError(
            error.status_code, error.code, message, field=given, limit=error.limit, headers=error.headers
        ) from error


def names(asked: VideoFields) -> dict[str, str]:
    """Return what the fields of a job are called that the caller has named otherwise."""
    return {"image": IMAGE} | ({} if asked.size is None else {"width": SIZE, "height": SIZE})


def _sides(asked: VideoFields, size: str) -> dict[str, Any]:
    if asked.width is not None or asked.height is not None:
        raise InvalidParameter("size", "must not be given together with width or height")
    match = _SIZE.fullmatch(size)
    if match is None:
        raise InvalidParameter("size", f"must be WIDTHxHEIGHT in pixels, such as 512x512, not {size[:40]!r}")
    return {"width": int(match[1]), "height": int(match[2])}


def _frames(asked: VideoFields, given: str | float, architecture: Architecture) -> dict[str, Any]:
    """As many frames as fill the time at the rate asked for, or else at the model's, or the nearest that it can."""
    if asked.num_frames is not None:
        raise InvalidParameter("seconds", "must not be given together with num_frames")
    if isinstance(given, str) and not _SECONDS.fullmatch(given):
        raise InvalidParameter("seconds", f"must be a number of seconds, such as 4, not {given[:40]!r}")
    seconds, frames, rates = float(given), architecture.limits.num_frames, architecture.limits.target_fps
    slowest, fastest, at = rates.minimum, rates.maximum, ""
    if asked.target_fps is not None:
        rates.check("target_fps", asked.target_fps)
        slowest = fastest = asked.target_fps
        at = f" at {asked.target_fps} frames per second"
    least, most = frames.minimum / fastest, frames.maximum / slowest
    if not least <= seconds <= most:
        raise InvalidParameter("seconds", f"must be from {least:.3g} to {most:.3g}{at}, not {seconds:g}")
    rate = asked.target_fps
    if rate is None:
        usual = architecture.defaults.target_fps
        rate = min(max(usual, math.ceil(frames.minimum / seconds)), math.floor(frames.maximum / seconds))
    return {"num_frames": round(seconds * rate), "target_fps": rate}


def _percent(job: Job) -> int:
    if job.status is JobStatus.SUCCEEDED:
        return 100
    return int(100 * job.progress.fraction) if job.progress else 0


def _error(job: Job) -> VideoError | None:
    if job.status is JobStatus.CANCELLED:
        return VideoError(code=CANCELLED, message="the job was cancelled")
    return VideoError(code=job.error.code, message=job.error.message) if job.error else None


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
