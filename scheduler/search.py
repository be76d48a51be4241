"""Looking for jobs: the filters of a list, and a search in ids and prompts.

A search reads prompts from the newest job on, at most `LOOKED_AT` of them, so that it takes a bounded time however many
jobs there are; where it ends before it has filled its page, the page says where to go on. There is no index of words:
it would cost every submit what few ever ask for, and the two databases would each have their own idea of a word.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TypedDict

from sqlalchemy import Connection

from scheduler.errors import InvalidParameter
from scheduler.records import Job
from scheduler.states import JobStatus
from scheduler.store import reads
from scheduler.store.reads import Wanted

LOOKED_AT = 10_000
TEXT_MAX_CHARS = 200
_AT_ONCE = 1_000  # prompts of 4 KB each in memory
_ID_BEGINNING = re.compile(r"job_[0-9a-z]{0,26}")
_ID_CHARS = len("job_") + 26


class Filters(TypedDict, total=False):
    """Which jobs a list is of, newest first; None and no statuses: any.

    Times are seconds since 1970, exclusive; `before_id` is the last job of the page before. With `ascending` the oldest
    come first. `gpu_id` is of a GPU that has had the job, at least once.
    """

    tenant: str | None
    statuses: Collection[JobStatus]
    model: str | None
    gpu_id: str | None
    created_after: float | None
    created_before: float | None
    before_id: str | None
    ascending: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A page of jobs, and the job after which to look on; None: there is nothing more."""

    jobs: list[Job]
    next_id: str | None


def page(conn: Connection, wanted: Wanted, limit: int) -> Found:
    """Return up to `limit` jobs."""
    found = reads.jobs(conn, wanted, limit + 1)
    return Found(found[:limit], found[limit - 1].id if len(found) > limit else None)


def search(conn: Connection, text: str, wanted: Wanted, limit: int) -> Found:
    """Return up to `limit` jobs whose id begins with `text`, or whose prompt has all of its words.

    A word may be any part of a prompt, in small letters or capitals. Raises `InvalidParameter` for a text that is too
    long, or has no word.
    """
    words = text.casefold().split()
    if not words or len(text) > TEXT_MAX_CHARS:
        raise InvalidParameter("q", f"must have a word, and at most {TEXT_MAX_CHARS} characters")
    if _ID_BEGINNING.fullmatch(words[0]) and len(words) == 1:
        lowest, highest = words[0].ljust(_ID_CHARS, "0"), words[0].ljust(_ID_CHARS, "z")
        return page(conn, replace(wanted, ids=(lowest, highest)), limit)
    return _scanned(conn, lambda prompt: all(word in prompt for word in words), wanted, limit)


def _scanned(conn: Connection, matches: Callable[[str], bool], wanted: Wanted, limit: int) -> Found:
    chosen: list[str] = []
    last: str | None = None
    for _ in range(LOOKED_AT // _AT_ONCE):
        looked_at = reads.prompts(conn, wanted, _AT_ONCE)
        for job_id, prompt in looked_at:
            if matches(prompt.casefold()):
                if len(chosen) == limit:
                    return Found(reads.some_jobs(conn, chosen, wanted), chosen[-1])
                chosen.append(job_id)
        last = looked_at[-1][0] if len(looked_at) == _AT_ONCE else None
        if last is None:
            break
        wanted = replace(wanted, before_id=last)
    return Found(reads.some_jobs(conn, chosen, wanted), last)
