"""Making jobs: submit and retry, each with a key that makes it safe to say twice, and delete."""

import io
import mimetypes
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias, Unpack

import httpx

from app.client.effects import Send, Steps
from app.client.exchange import Call, Server, attempt, perform, raise_for_problem
from app.client.fields import form, known, route
from app.client.types import Job, JobFields, JobOutcome, Page

Image: TypeAlias = Path | str | bytes | IO[bytes]
_URLS = ("https://", "http://", "data:")


def submit(
    server: Server,
    image: Image,
    prompt: str,
    *,
    idempotency_key: str | None = None,
    **fields: Unpack[JobFields],
) -> Steps[Job]:
    """Submit a job. `image` is a path, bytes, a binary file (read from its start), an https URL or a data URI.

    One idempotency key is one job, which is what makes it safe to try again; there is a new one unless given.
    Raises OSError if `image` cannot be read.
    """
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    with _body(image, {"prompt": prompt, **fields}) as body:
        return (yield from perform(server, Call("POST", "/v1/jobs", {"headers": headers, **body})))


def retry(server: Server, job_id: str, *, idempotency_key: str | None = None) -> Steps[Job]:
    """Submit a failed or cancelled job again, as a new job with the same image and parameters, and return that."""
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    return (yield from perform(server, Call("POST", route("jobs", job_id, "retry"), {"headers": headers})))


def retry_many(
    server: Server, job_ids: Sequence[str], *, idempotency_key: str | None = None
) -> Steps[Page[JobOutcome]]:
    """Submit up to 100 failed or cancelled jobs again; returns for each its new job, or why there is none."""
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    call: Call[Page[JobOutcome]] = Call("POST", "/v1/jobs/retry", {"headers": headers, "json": {"ids": list(job_ids)}})
    return (yield from perform(server, call))


def delete(server: Server, job_id: str) -> Steps[None]:
    """Remove an ended job and its files."""
    tries = 0

    def once() -> Steps[None]:
        nonlocal tries
        tries += 1
        answer: httpx.Response = yield Send("DELETE", route("jobs", job_id))
        # Where an earlier try had its effect and no answer, the job is gone as wanted.
        if answer.status_code != httpx.codes.NOT_FOUND or tries == 1:
            raise_for_problem(server, answer)

    yield from attempt(server, once, server.retry)


@contextmanager
def _body(image: Image, fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give httpx's options for a form with a file, or for JSON where the image is a URL."""
    if isinstance(image, str) and image.lower().startswith(_URLS):
        yield {"json": known({**fields, "image": image})}
    elif isinstance(image, Path | str):
        path = Path(image)
        with path.open("rb") as file:
            yield {"data": form(fields), "files": {"image": _part(path.name, file)}}
    else:
        yield {"data": form(fields), "files": {"image": _part("image", _rewindable(image))}}


def _rewindable(image: bytes | IO[bytes]) -> bytes | IO[bytes]:
    """httpx rewinds a file for each try; what cannot be rewound is read now."""
    if isinstance(image, bytes):
        return image
    return image if isinstance(image, io.IOBase) and image.seekable() else image.read()


def _part(name: str, content: bytes | IO[bytes]) -> tuple[str, bytes | IO[bytes], str]:
    # The type is a courtesy: the server looks at the bytes alone.
    return name, content, mimetypes.guess_type(name)[0] or "application/octet-stream"
