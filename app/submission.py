"""From a submission's fields and image to a queued job, or to nothing at all."""

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import fields

import anyio.to_thread
import structlog
from fastapi import Request, Response

from app.access import Principal
from app.answers import answer
from app.context import Context
from app.errors import RequestError
from app.schemas import JobFields, Parameters
from app.schemas.submission import RESULT_TTL_MIN_SECONDS
from app.sources import Source, UrlSource, url_not_allowed
from app.times import parse_time
from app.urls import UrlNotAllowed, check_url
from scheduler import catalog
from scheduler.errors import InvalidParameter, Refused, SchedulerError, Unavailable
from scheduler.ids import new_id
from scheduler.params import VideoParams, check_metadata, check_priority, check_text
from scheduler.presets import default_steps
from scheduler.records import NewJob, ServedModel
from scheduler.replays import replayed
from scheduler.submitting import Submitted
from scheduler.webhooks import DEFAULT_EVENTS, EVENT_TYPES

log = structlog.get_logger(__name__)

_MAX_AHEAD_DAYS = 30
_DAY_SECONDS = 86_400
_KEY = re.compile(r"[\x20-\x7e]{1,255}")


def check_key(idempotency_key: str | None) -> None:
    """Raise `RequestError` for an Idempotency-Key that is none."""
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        raise RequestError(
            422,
            "invalid_parameter",
            "Idempotency-Key must be 1 to 255 printable ASCII characters",
            field="Idempotency-Key",
            limit=255,
        )


async def in_thread(context: Context, caller: Principal, work: Callable[[], Response]) -> Response:
    """Do the work of a submission in a thread; what it finds full is not asked again for a second."""
    try:
        return await anyio.to_thread.run_sync(work, limiter=context.submitting)
    except SchedulerError as error:
        context.intake.remember(error, caller.tenant)
        raise


def submit(
    context: Context,
    caller: Principal,
    asked: JobFields,
    source: Source,
    idempotency_key: str | None,
    *,
    retry_of: str | None = None,
) -> Submitted:
    """Check, store the image, and commit the job as one of the caller's. Slow: call it in a thread.

    A key that made a job before answers with that one, before the image is fetched or decoded. Raises `RequestError`
    for the image and the webhook's URL, and `SchedulerError` for the rest; no file is left behind then.
    """
    check_text("prompt", asked.prompt, required=True)
    check_metadata(asked.metadata)
    served, params = resolve(context, asked)
    not_before, deadline_at = _times(context, asked)
    webhook_url, webhook_events = _webhook(context, asked)
    result_ttl_seconds = _result_ttl_seconds(context, asked.result_ttl_seconds)
    payload_sha256 = ""
    if idempotency_key is not None:
        payload_sha256 = fingerprint(asked, source)
        known = replayed(context.scheduler.database, caller.tenant, idempotency_key, payload_sha256)
        if known is not None:
            return known
    job_id = new_id("job")
    image_key = _store_image(context, caller, job_id, source)
    new = NewJob(
        id=job_id,
        model=served.id,
        prompt=asked.prompt,
        params=params,
        image_key=image_key,
        priority=asked.priority,
        metadata=asked.metadata,
        tenant=caller.tenant,
        not_before=not_before,
        window=asked.window,
        idempotency_key=idempotency_key,
        payload_sha256=payload_sha256,
        deadline_at=deadline_at,
        retry_of=retry_of,
        webhook_url=webhook_url,
        webhook_events=webhook_events,
        result_ttl_seconds=result_ttl_seconds,
        traceparent=context.tracer.current(),
    )
    try:
        submitted = context.scheduler.queue.submit(new)
    except (Refused, Unavailable):
        # Any other error leaves open whether the job was committed, and a committed job needs its image.
        _forget_image(context, job_id)
        raise
    if not submitted.created:
        _forget_image(context, job_id)
    context.tracer.note({"reelq.job_id": submitted.job.id, "reelq.created": submitted.created})
    return submitted


def respond(request: Request, context: Context, submitted: Submitted) -> Response:
    """Return the answer to a submission: 202 with the job. Asks the store, so call it in a thread."""
    job = submitted.job
    log.info("job submitted", job_id=job.id, model=job.model, created=submitted.created)
    accepted = answer(context, job, request)
    accepted.status_code = 202
    accepted.headers["Location"] = f"/v1/jobs/{job.id}"
    if not submitted.created:
        accepted.headers["Idempotent-Replayed"] = "true"
    return accepted


def resolve(context: Context, asked: Parameters) -> tuple[ServedModel, VideoParams]:
    """Return the model and the complete parameters that `asked` means; raises `InvalidParameter` or `NoModel`."""
    check_priority(asked.priority)
    served = catalog.resolve(asked.model, context.scheduler.queue.models())
    architecture = catalog.architecture(served.architecture)
    values = architecture.defaults.to_dict()
    values["seed"] = secrets.randbelow(2**32)
    values.update({f.name: given for f in fields(VideoParams) if (given := getattr(asked, f.name)) is not None})
    if asked.num_inference_steps is None:
        values["num_inference_steps"] = default_steps(values["preset"], architecture)
    params = VideoParams.from_dict(values)
    architecture.limits.check(params)
    return served, params


def fingerprint(asked: JobFields, source: Source) -> str:
    """Return what an idempotency key vouches for: the fields and the image as given, as a SHA-256."""
    given = asked.model_dump(exclude_unset=True, exclude_none=True)
    return hashlib.sha256(json.dumps([given, source.digest], sort_keys=True).encode()).hexdigest()


def folder_of(job_id: str) -> str:
    """Return the prefix of all blobs of a job."""
    return f"jobs/{job_id}"


def _times(context: Context, asked: JobFields) -> tuple[float, float | None]:
    """The earliest start (0: at once) and the deadline, in seconds since 1970; raises `InvalidParameter`."""
    if asked.not_before is None and asked.deadline is None:
        return 0.0, None
    database = context.scheduler.database
    with database.read() as conn:
        now = database.now(conn)
    not_before = 0.0 if asked.not_before is None else max(0.0, _time("not_before", asked.not_before, now))
    if asked.deadline is None:
        return not_before, None
    deadline_at = _time("deadline", asked.deadline, now)
    if deadline_at <= max(now, not_before):
        raise InvalidParameter("deadline", f"must be in the future, and after not_before, not {asked.deadline}")
    return not_before, deadline_at


def _time(field: str, text: str, now: float) -> float:
    at = parse_time(field, text)
    if at > now + _MAX_AHEAD_DAYS * _DAY_SECONDS:
        raise InvalidParameter(field, f"must be at most {_MAX_AHEAD_DAYS} days ahead, not {text}")
    return at


def _webhook(context: Context, asked: JobFields) -> tuple[str | None, Sequence[str]]:
    """The webhook's URL and the events that it is told of."""
    url, events = asked.webhook_url, asked.webhook_events
    if url is None:
        if events is not None:
            raise InvalidParameter("webhook_events", "must not be given without webhook_url")
        return None, ()
    settings = context.settings
    try:
        check_url(url, allow_http=settings.allow_http_urls, networks=settings.networks)
    except UrlNotAllowed as error:
        raise url_not_allowed("webhook_url", error) from None
    if events is None:
        return url, DEFAULT_EVENTS
    if not events or not set(events) <= EVENT_TYPES.keys():
        raise InvalidParameter("webhook_events", f"must be one or more of {', '.join(EVENT_TYPES)}")
    return url, tuple(dict.fromkeys(events))


def _result_ttl_seconds(context: Context, asked: float | None) -> float | None:
    settings = context.settings
    longest = (settings.result_days or settings.retention_days) * _DAY_SECONDS
    if asked is not None and not RESULT_TTL_MIN_SECONDS <= asked <= longest:
        limits = f"from {RESULT_TTL_MIN_SECONDS} to {longest:.0f}"
        raise InvalidParameter("result_ttl_seconds", f"must be {limits} seconds, not {asked:g}")
    return asked


def _store_image(context: Context, caller: Principal, job_id: str, source: Source) -> str:
    """Decode an image and store it for a job; returns its key. Nothing of it stays in memory."""
    fetching = context.fetches.place(caller) if isinstance(source, UrlSource) else nullcontext()
    with fetching, source.picture() as picture:
        key = f"{folder_of(job_id)}/image.{picture.suffix}"
        context.scheduler.blobs.put(key, picture.write)
    return key


def _forget_image(context: Context, job_id: str) -> None:
    try:
        context.scheduler.blobs.delete_prefix(folder_of(job_id))
    except SchedulerError:  # the caller is told why there is no job, not that a file of it stayed
        log.exception("an image without a job stays", job_id=job_id)
