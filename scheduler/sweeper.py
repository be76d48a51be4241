"""The sweeper: removes files that no job owns, such as the image of a submission that died before its commit."""

from sqlalchemy import select

from scheduler.blobs import BlobStore
from scheduler.ids import is_id, made_at
from scheduler.store import schema as s
from scheduler.store.database import Database

JOBS_PREFIX = "jobs"
_GRACE_SECONDS = 3600.0  # far longer than any submission is between its image and its commit
_BATCH = 500


class Sweeper:
    """A small maintenance service: call `run_once` now and then."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def run_once(self) -> list[str]:
        """Delete the files of jobs that do not exist; returns the ids. What is not a job's folder is left alone."""
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
