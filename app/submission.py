"""From an upload to a queued job, or to nothing at all."""

import hashlib
import json
import re
import secrets
import tempfile
from dataclasses import fields
from datetime import datetime
from pathlib import Path

import structlog

from app import images
from app.context import Context
from app.schemas import Parameters
from app.uploads import Upload
from scheduler import catalog
from scheduler.errors import InvalidParameter, Refused, SchedulerError, StorageFull, Unavailable
from scheduler.ids import new_id
from scheduler.params import VideoParams, check_metadata, check_priority, check_text
from scheduler.records import NewJob, ServedModel
from scheduler.submitting import Submitted

log = structlog.get_logger(__name__)

_MAX_AHEAD_DAYS = 30
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def submit(context: Context, upload: Upload, idempotency_key: str | None) -> Submitted:
    """Check, store the image, and commit the job. Slow (it decodes and encodes an image): call it in a thread.

    Raises `RequestError` for the image and `SchedulerError` for the rest; no file is left behind then.
    """
    asked = upload.fields
    check_text("prompt", asked.prompt, required=True)
    check_metadata(asked.metadata)
    served, params = resolve(context, asked)
    job_id = new_id("job")
    new = NewJob(
        id=job_id,
        model=served.id,
        prompt=asked.prompt,
        params=params,
        image_key=f"{folder_of(job_id)}/image.png",
        priority=asked.priority,
        metadata=asked.metadata,
        not_before=_not_before(context, asked.not_before),
        idempotency_key=idempotency_key,
        payload_sha256=fingerprint(upload),
    )
    _store_image(context, upload.image, new.image_key)
    try:
        submitted = context.scheduler.queue.submit(new)
    except (Refused, Unavailable):
        # Any other error leaves open whether the job was committed, and a committed job needs its image.
        _forget_image(context, job_id)
        raise
    if not submitted.created:
        _forget_image(context, job_id)
    return submitted


def resolve(context: Context, asked: Parameters) -> tuple[ServedModel, VideoParams]:
    """Return the model and the complete parameters that `asked` means; raises `InvalidParameter` or `NoModel`."""
    check_priority(asked.priority)
    served = catalog.resolve(asked.model, context.scheduler.queue.models())
    architecture = catalog.architecture(served.architecture)
    values = architecture.defaults.to_dict()
    values["seed"] = secrets.randbelow(2**32)
    values.update({f.name: given for f in fields(VideoParams) if (given := getattr(asked, f.name)) is not None})
    params = VideoParams.from_dict(values)
    architecture.limits.check(params)
    return served, params


def fingerprint(upload: Upload) -> str:
    """Return what an idempotency key vouches for: the fields as given and the image's bytes, as a SHA-256."""
    given = upload.fields.model_dump(exclude_unset=True, exclude_none=True)
    image = hashlib.sha256(upload.image).hexdigest()
    return hashlib.sha256(json.dumps([given, image], sort_keys=True).encode()).hexdigest()


def folder_of(job_id: str) -> str:
    """Return the prefix of all blobs of a job."""
    return f"jobs/{job_id}"


def _not_before(context: Context, text: str | None) -> float:
    """Return the earliest start in seconds since 1970, 0 for at once; raises `InvalidParameter`."""
    if text is None:
        return 0.0
    try:
        at = datetime.fromisoformat(text.upper()).timestamp() if _RFC3339.fullmatch(text) else None
    except ValueError:  # February 30th, say
        at = None
    if at is None:
        wanted = "must be an RFC 3339 time with its offset from UTC, such as 2030-01-31T18:00:00Z"
        raise InvalidParameter("not_before", f"{wanted}, not {text[:40]!r}")
    database = context.scheduler.database
    with database.read() as conn:
        latest = database.now(conn) + _MAX_AHEAD_DAYS * 86_400
    if at > latest:
        raise InvalidParameter("not_before", f"must be at most {_MAX_AHEAD_DAYS} days ahead, not {text}")
    return max(0.0, at)


def _store_image(context: Context, data: bytes, key: str) -> None:
    blobs, settings = context.scheduler.blobs, context.settings
    free = blobs.free_bytes()
    if free is not None and free < settings.min_free_disk_bytes:
        raise StorageFull(
            f"the blob store has {free} bytes free, less than the {settings.min_free_disk_bytes} it must keep"
        )
    with tempfile.TemporaryDirectory(prefix="reelq-") as folder:
        path = Path(folder) / "image.png"
        images.normalise(data, path, max_pixels=settings.max_image_pixels)
        blobs.put_file(key, path)


def _forget_image(context: Context, job_id: str) -> None:
    try:
        context.scheduler.blobs.delete_prefix(folder_of(job_id))
    except SchedulerError:  # the caller is told why there is no job, not that a file of it stayed
        log.exception("an image without a job stays", job_id=job_id)
