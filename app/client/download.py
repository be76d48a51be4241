"""A file of a job onto the disk: whole and checked, or not at all."""

import hashlib
import secrets
from pathlib import Path
from typing import Literal

from app.client import calls
from app.client.effects import Open, Opened, Read, Send, Steps
from app.client.errors import ApiError, DownloadCorrupt
from app.client.exchange import Server, attempt, perform, raise_for_problem
from app.client.fields import route
from app.client.types import Job

What = Literal["video", "thumbnail", "preview"]


def download(server: Server, job_id: str, path: Path | str, what: What = "video") -> Steps[Job]:
    """Write a job's video, or its thumbnail or preview, to `path`, whole or not at all, and return the job.

    Raises `DownloadCorrupt` if the video does not match the job's SHA-256, OSError if `path` cannot be written.
    """
    job = yield from perform(server, calls.get(job_id))
    if job["video"] is None:
        raise ApiError(409, "no_video", f"job {job_id} is {job['status']} and has no video")
    sha256 = job["video"]["sha256"] if what == "video" else None  # of the others the length alone is known

    def once() -> Steps[None]:
        yield from _save(server, route("jobs", job_id, what), Path(path), sha256)

    yield from attempt(server, once, server.retry)
    return job


def _save(server: Server, source: str, path: Path, sha256: str | None) -> Steps[None]:
    """Write to a temporary sibling of `path`, and rename that to `path` once it is whole."""
    answer: Opened = yield Open(Send("GET", source))
    raise_for_problem(server, answer.response)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    digest = hashlib.sha256()
    try:
        with part.open("xb") as file:
            while chunk := (yield Read(answer)):
                digest.update(chunk)
                file.write(chunk)
        _compare(path, digest.hexdigest(), sha256)
        part.replace(path)
    except BaseException:  # Ctrl-C too leaves no half a file
        part.unlink(missing_ok=True)
        raise


def _compare(path: Path, came: str, wanted: str | None) -> None:
    if wanted is not None and came != wanted.lower():
        raise DownloadCorrupt(
            f"{path} was not written: what came has the SHA-256 {came[:12]}…, the job's video {wanted[:12]}…"
        )
