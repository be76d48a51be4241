"""What a route knows of its caller, and what the caller may see."""

import re
from typing import Annotated

from fastapi import Depends, Request

from app.context import Context
from app.door import Principal
from scheduler.errors import NotFound
from scheduler.ids import is_id
from scheduler.records import Job

__all__ = ["Caller", "Principal", "known_gpu", "visible"]

_GPU_ID = re.compile(r"[\x21-\x7e]{1,200}")


async def _caller(request: Request) -> Principal:
    principal: Principal = request.scope["state"]["principal"]
    return principal


Caller = Annotated[Principal, Depends(_caller)]


def visible(context: Context, caller: Principal, job_id: str) -> Job:
    """Return a job that `caller` may see; raises `NotFound`, in the same words, for one that is not there at all."""
    if not is_id(job_id):
        raise NotFound(f"no job {job_id[:80]}")
    job = context.scheduler.queue.get(job_id)
    if not caller.sees(job):
        raise NotFound(f"no job {job_id}")
    return job


def known_gpu(gpu_id: str) -> str:
    """Return the id of a GPU if it can be one; raises `NotFound`."""
    if not _GPU_ID.fullmatch(gpu_id):
        raise NotFound(f"no GPU {gpu_id[:80]!r}")
    return gpu_id
