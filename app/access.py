"""What a route knows of its caller, and what the caller may see."""

from typing import Annotated

from fastapi import Depends, Request

from app.context import Context
from app.door import Principal
from scheduler.errors import NotFound
from scheduler.ids import is_id
from scheduler.records import Job

__all__ = ["Caller", "Principal", "visible"]


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
