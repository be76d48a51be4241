"""The sweeper: removes files that no job owns, such as the image of a submission that died before its commit.

It touches only a blob store that its own database has marked while it was new: a database that is pointed at
the files of another installation finds jobs it does not know, and must not take them for leftovers.
"""

import os
from pathlib import Path

from sqlalchemy import insert, select

from scheduler.blobs import BlobStore
from scheduler.ids import is_id, made_at, new_id
from scheduler.store import schema as s
from scheduler.store.database import Database

JOBS_PREFIX = "jobs"
_MARKS_PREFIX = "installations"
_GRACE_SECONDS = 3600.0  # far longer than any submission is between its image and its commit
_BATCH = 500


class Sweeper:
    """A small maintenance service: call `run_once` at start, and then now and then."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def run_once(self) -> list[str]:
        """Delete the files of jobs that do not exist; returns the ids. What is not a job's folder is left alone."""
        if not self._owns_store():
            return []
        with self._database.read() as conn:
            before = self._database.now(conn) - _GRACE_SECONDS
        old = [name for name in self._blobs.folders(JOBS_PREFIX) if is_id(name) and made_at(name) < before]
        swept: list[str] = []
        for start in range(0, len(old), _BATCH):
            batch = old[start : start + _BATCH]
            with self._database.read() as conn:
                known = set(conn.execute(select(s.jobs.c.id).where(s.jobs.c.id.in_(batch))).scalars())
            orphans = [job_id for job_id in batch if job_id not in known]
            swept += [job_id for job_id in orphans if self._blobs.delete_prefix(f"{JOBS_PREFIX}/{job_id}")]
        return swept

    def _owns_store(self) -> bool:
        """Whether the mark in the store is ours alone; a store without marks and jobs becomes ours."""
        own = self._installation_id()
        owners = self._blobs.folders(_MARKS_PREFIX)
        if not owners and not self._blobs.folders(JOBS_PREFIX):
            self._blobs.put_file(f"{_MARKS_PREFIX}/{own}/mark", Path(os.devnull))  # its name says it all
            owners = self._blobs.folders(_MARKS_PREFIX)
        return owners == [own]

    def _installation_id(self) -> str:
        with self._database.read() as conn:
            known = conn.execute(select(s.installation.c.id)).scalar()
        if known is not None:
            return str(known)
        with self._database.write() as conn:
            self._database.lock_all(conn)
            known = conn.execute(select(s.installation.c.id)).scalar()
            if known is None:
                known = new_id("installation")
                conn.execute(insert(s.installation).values(id=known, only_row=1))
        return str(known)
