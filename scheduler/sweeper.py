"""The sweeper: removes files that nobody will read, such as the image of a submission that died before its commit.

Of a job that exists, it removes what attempts have left whose lease is over: outputs that were never published, and
checkpoints that the job does not go on from. The attempt that runs, or that has made the result, keeps all it has.

It touches only a blob store that its own database has marked while it was new: a database that is pointed at
the files of another installation finds jobs it does not know, and must not take them for leftovers.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import insert, or_, select, tuple_

from scheduler.blobs import BlobStore
from scheduler.ids import is_id, made_at, new_id
from scheduler.states import JobStatus
from scheduler.store import schema as s
from scheduler.store.database import Database

JOBS_PREFIX = "jobs"
_MARKS_PREFIX = "installations"
_GRACE_SECONDS = 3600.0  # far longer than any submission is between its image and its commit
_BATCH = 500
_WITHOUT_RESULT = (JobStatus.FAILED, JobStatus.CANCELLED)


class Sweeper:
    """A small maintenance service: call `run_once` at start, and then now and then."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        self._ended_since = 0.0  # jobs that ended before have been looked at since

    def run_once(self) -> list[str]:
        """Delete what is left over, and return it: ids of jobs that do not exist, and `<id>/<lease>` of those that do.

        What is not a job's folder is left alone.
        """
        if not self._owns_store():
            return []
        with self._database.read() as conn:
            before = self._database.now(conn) - _GRACE_SECONDS
        swept = self._sweep_jobs(before) + self._sweep_attempts()
        self._ended_since = before  # a worker that has not heard of the end may still write for a while
        return swept

    def _sweep_jobs(self, before: float) -> list[str]:
        old = [name for name in self._blobs.folders(JOBS_PREFIX) if is_id(name) and made_at(name) < before]
        swept: list[str] = []
        for start in range(0, len(old), _BATCH):
            batch = old[start : start + _BATCH]
            with self._database.read() as conn:
                known = set(conn.execute(select(s.jobs.c.id).where(s.jobs.c.id.in_(batch))).scalars())
            orphans = [job_id for job_id in batch if job_id not in known]
            swept += [job_id for job_id in orphans if self._blobs.delete_prefix(f"{JOBS_PREFIX}/{job_id}")]
        return swept

    def _sweep_attempts(self) -> list[str]:
        swept: list[str] = []
        for job_id in self._jobs_with_leftovers():
            # Read after the listing: a lease that has come since is not in it.
            listed = self._blobs.folders(f"{JOBS_PREFIX}/{job_id}")
            kept = self._kept_folders(job_id)
            over = [] if kept is None else [name for name in listed if name.isdecimal() and name not in kept]
            swept += [
                f"{job_id}/{name}" for name in over if self._blobs.delete_prefix(f"{JOBS_PREFIX}/{job_id}/{name}")
            ]
        return swept

    def _jobs_with_leftovers(self) -> Iterator[str]:
        """Jobs of which more than the attempt that counts may have left files.

        Of those that have not ended only the ones with a checkpoint: they are few, and the others end some day.
        """
        c = s.job_states.c
        with self._database.read() as conn:
            saved = select(c.job_id).join(s.checkpoints, s.checkpoints.c.job_id == c.job_id).where(c.lease > 1)
            unfinished = list(conn.execute(saved).scalars())
        yield from unfinished
        left = or_(c.lease > 1, (c.lease > 0) & c.status.in_(_WITHOUT_RESULT))
        place = (self._ended_since, "")
        while True:
            ended = (
                select(c.finished_at, c.job_id)
                .where(c.finished_at >= place[0], tuple_(c.finished_at, c.job_id) > place, left)
                .order_by(c.finished_at, c.job_id)
                .limit(_BATCH)
            )
            with self._database.read() as conn:
                batch = [(finished_at, job_id) for finished_at, job_id in conn.execute(ended)]
            yield from (job_id for _, job_id in batch)
            if len(batch) < _BATCH:
                return
            place = batch[-1]

    def _kept_folders(self, job_id: str) -> set[str] | None:
        """The folders of the attempt that counts, of the result and of the checkpoint; None where the job is gone."""
        c = s.job_states.c
        query = (
            select(c.status, c.lease, s.checkpoints.c.key, s.results.c.video_key)
            .select_from(s.job_states)
            .outerjoin(s.checkpoints, s.checkpoints.c.job_id == c.job_id)
            .outerjoin(s.results, s.results.c.job_id == c.job_id)
            .where(c.job_id == job_id)
        )
        with self._database.read() as conn:
            row = conn.execute(query).one_or_none()
        if row is None:
            return None
        kept = {key.split("/")[2] for key in (row.key, row.video_key) if key is not None}
        return kept if row.status in _WITHOUT_RESULT else kept | {str(row.lease)}

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
