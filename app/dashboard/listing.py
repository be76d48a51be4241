"""Which jobs the list of jobs shows: what its address asks for, and the addresses of other pages of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, Field

from app.times import parse_time
from scheduler.queue import Queue
from scheduler.records import Job
from scheduler.search import TEXT_MAX_CHARS
from scheduler.states import JobStatus

PAGE_JOBS = 50
_CURSORS = ("before", "after")


def _given(value: object) -> object:
    """A field of a form that was left empty asks for nothing."""
    return None if isinstance(value, str) and not value.strip() else value


_Given = BeforeValidator(_given)
_Text = Annotated[str | None, Field(max_length=TEXT_MAX_CHARS, pattern=r"^[^\x00]*$"), _Given]
_Tenant = Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$"), _Given]
_JobId = Annotated[str | None, Field(pattern=r"^job_[0-9a-hjkmnp-tv-z]{26}$"), _Given]


class Asked(BaseModel):
    """The query of the list's address; `before` and `after` name a job that all are older, or newer, than."""

    status: Annotated[JobStatus | None, _Given] = None
    q: _Text = None
    model: _Text = None
    tenant: _Tenant = None
    gpu: _Text = None
    created_after: _Text = None
    created_before: _Text = None
    before: _JobId = None
    after: _JobId = None

    @property
    def narrowed(self) -> bool:
        """Whether it asks for less than all jobs of all states."""
        return bool(self._given(without=("status", *_CURSORS)))

    @property
    def details(self) -> bool:
        """Whether it asks for more than a state and words."""
        return bool(self._given(without=("status", "q", *_CURSORS)))

    @property
    def newest(self) -> bool:
        """Whether it begins with the newest job."""
        return self.before is None and self.after is None

    def link(self, **changes: str | None) -> str:
        """Return the address that asks for the same but for `changes`, from the newest job on unless they say more."""
        asked = {**self._given(without=_CURSORS), **changes}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return f"/jobs?{query}" if query else "/jobs"

    def filters(self, tenant: str | None) -> dict[str, Any]:
        """Return the filters of a list of a tenant's jobs, or of all; raises `InvalidParameter` for a bad time."""
        since, until = self.created_after, self.created_before
        return {
            "tenant": tenant,
            "statuses": () if self.status is None else (self.status,),
            "model": self.model,
            "gpu_id": self.gpu,
            "created_after": None if since is None else parse_time("created_after", since),
            "created_before": None if until is None else parse_time("created_before", until),
        }

    def _given(self, without: Sequence[str]) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True, exclude=set(without))


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of jobs, newest first, and the addresses of the pages beside it; None where there is no such page."""

    jobs: Sequence[Job]
    newer: str | None
    older: str | None


def listed(queue: Queue, asked: Asked, tenant: str | None) -> Listed:
    """Return the page that is asked for; the first one where there is no full page of newer jobs.

    A search looks at so many jobs at a time: then a page may be short, or empty, and yet there is an older one.
    """
    filters = asked.filters(tenant)
    if asked.after is not None:
        found = queue.find_jobs(asked.q, limit=PAGE_JOBS, before_id=asked.after, ascending=True, **filters)
        if found.next_id is not None:
            jobs = found.jobs[::-1]
            oldest = jobs[-1].id if jobs else asked.after
            return Listed(jobs, newer=asked.link(after=found.next_id), older=asked.link(before=oldest))
    found = queue.find_jobs(asked.q, limit=PAGE_JOBS, before_id=asked.before, **filters)
    newest = found.jobs[0].id if found.jobs else asked.before
    return Listed(
        found.jobs,
        newer=None if asked.before is None else asked.link(after=newest),
        older=None if found.next_id is None else asked.link(before=found.next_id),
    )
