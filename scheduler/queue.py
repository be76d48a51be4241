"""The queue: submit, look, cancel, claim.

A route calls `submit`; a worker calls `claim` with what its GPU has free; `placement` decides what fits; the store
makes one guarded transition. What a worker does with its lease afterwards is in `leases`.
"""

from collections.abc import Iterable, Sequence
from typing import Unpack

from sqlalchemy import Connection, delete

from scheduler import catalog
from scheduler.claiming import Claims
from scheduler.deadlines import Deadlines
from scheduler.errors import InvalidState, NoModel, SchedulerError
from scheduler.explain import QueueInfo
from scheduler.explainer import Explainer
from scheduler.footprints import Footprints
from scheduler.grouping import GroupCommit
from scheduler.offers import offers
from scheduler.params import VideoParams
from scheduler.placement import Offer
from scheduler.policy import Policy
from scheduler.records import Attempt, Gpu, Job, JobError, Lease, NewJob, Result, ServedModel
from scheduler.replanning import Replanner
from scheduler.search import Filters, Found, page, search
from scheduler.states import Window
from scheduler.store import machines, reads, transitions, versions
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.submitting import Submissions, Submitted
from scheduler.wakeup import JOBS_WAITING, Wakeup, job_topic


class Queue:
    """The durable queue as callers and claiming workers see it. Thread-safe; each method is one transaction."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup, footprints: Footprints) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup
        self._footprints = footprints
        self._claims = Claims(database, policy, wakeup)
        self._submissions = Submissions(database, policy, footprints)
        self._explainer = Explainer(database, policy, footprints, self._recent_gpus)
        # A look at ten jobs costs little more than at one: calls of several threads share the next.
        self._explanations = GroupCommit(
            self._explainer.explain, is_shared=lambda error: isinstance(error, SchedulerError), largest=64
        )
        self._replanner = Replanner(database, policy, wakeup, footprints, self._recent_gpus)
        self._deadlines = Deadlines(database, wakeup)

    def submit(self, new: NewJob) -> Submitted:
        """Commit `new` to the queue, or return the job its idempotency key made before.

        Calls of several threads share one durable commit. Raises `IdempotencyMismatch`, `QueueFull`, `NoModel`,
        `Unschedulable` or `StorageFull`; nothing is stored then.
        """
        submitted = self._submissions.submit(new)
        self._wakeup.notify(JOBS_WAITING)
        return submitted

    def submit_many(self, new: Sequence[NewJob]) -> list[Submitted | Exception]:
        """Do what `submit` does for several jobs, up to 256 in one commit; each is answered, or refused, by itself."""
        answers = self._submissions.submit_many(new)
        self._wakeup.notify(JOBS_WAITING)
        return answers

    def claim(
        self,
        worker_id: str,
        gpu_id: str,
        free_bytes: int,
        *,
        lane: int = 0,
        shape: str | None = None,
        plan: str | None = None,
    ) -> Lease | None:
        """Lease the best job that may start now to a worker, or None: see `Claims.claim`."""
        return self._claims.claim(worker_id, gpu_id, free_bytes, lane=lane, shape=shape, plan=plan)

    def get(self, job_id: str) -> Job:
        """Return a job; raises `NotFound`."""
        with self._database.read() as conn:
            return reads.job(conn, job_id)

    def list_jobs(self, *, limit: int = 20, **filters: Unpack[Filters]) -> list[Job]:
        """Return up to `limit` jobs, newest first."""
        with self._database.read() as conn:
            return reads.jobs(conn, reads.Wanted(**filters), limit)

    def find_jobs(self, text: str | None = None, *, limit: int = 20, **filters: Unpack[Filters]) -> Found:
        """Return a page of up to `limit` jobs, and where the next begins; with `text`, of what `search` finds."""
        wanted = reads.Wanted(**filters)
        with self._database.read() as conn:
            return page(conn, wanted, limit) if text is None else search(conn, text, wanted, limit)

    def has_expired(self, result: Result) -> bool:
        """Tell whether a video is no longer to be had, also where its files have not been deleted yet.

        By the database's clock, which costs a statement: so it is asked where a file is, and not at every poll.
        """
        if result.expired or result.expires_at is None:
            return result.expired
        with self._database.read() as conn:
            return result.expires_at <= self._database.now(conn)

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return a job's attempts, oldest first, of a deleted one too; empty for an unknown job."""
        with self._database.read() as conn:
            return reads.attempts(conn, job_id)

    def versions(self, job_ids: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return the current version of each of these jobs that exists."""
        return versions.versions(self._database, list(job_ids))

    def models(self) -> dict[str, ServedModel]:
        """Return the models that workers serve, newest first; raises `NoModel` while there is none."""
        with self._database.read() as conn:
            served = {id_: model for id_, model in reads.models(conn).items() if catalog.knows(model.architecture)}
        if not served:
            raise NoModel("no worker has registered a model yet")
        return served

    def explain(self, job: Job) -> QueueInfo | None:
        """Say where a queued job stands and why it waits; None unless it is queued."""
        return self._explanations(job)

    def explain_all(self, jobs: Sequence[Job]) -> list[QueueInfo | None]:
        """Do what `explain` does for several jobs, from one look."""
        return self._explainer.explain(jobs)

    def outlook(
        self,
        model: str,
        params: VideoParams,
        *,
        priority: float = 1.0,
        tenant: str = "default",
        window: Window | None = None,
    ) -> QueueInfo:
        """Say where such a job would stand if it were submitted now, what it would wait for, and when it should end.

        Raises `NoModel`, `Unschedulable` or `InvalidParameter`, as the submit would.
        """
        return self._explainer.outlook(model, params, priority, tenant, window)

    def quote(self, model: str, params: VideoParams) -> list[Offer]:
        """Return the footprint and the capacity for such a job on each GPU, under each plan; raises `NoModel`."""
        predictor = self._footprints.current()
        with self._database.read() as conn:
            served, gpus = reads.models(conn), self._recent_gpus(conn, self._database.now(conn))
        found = offers(served.get(model), gpus, params, predictor)
        if not found:
            raise NoModel(f"no GPU serves {model} at present")
        return found

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once when queued, at the next step when running; an ended job stays as it is."""
        with self._database.write() as conn:
            now = self._database.now(conn)
            transitions.lock(conn, job_id)  # or a claim or release between the two would lose the cancel
            if not transitions.cancel_queued(conn, job_id, now):
                transitions.request_cancel(conn, job_id, now)
            job = reads.job(conn, job_id)
        self._wakeup.notify(job_topic(job_id))
        self._wakeup.notify(JOBS_WAITING)  # a GPU may have been kept for it
        return job

    def delete(self, job_id: str) -> Job:
        """Forget an ended job and return it, so that its files can go too; raises `InvalidState` before its end."""
        with self._database.write() as conn:
            job = reads.job(conn, job_id)
            if not job.status.ended:
                raise InvalidState(f"job {job_id} is {job.status.value}: cancel it first")
            conn.execute(delete(s.jobs).where(s.jobs.c.id == job_id))
        return job

    def refuse(self, job_id: str, error: JobError) -> bool:
        """Fail a queued job that nothing could ever run; False when it is not queued any more."""
        with self._database.write() as conn:
            refused = transitions.refuse_queued(conn, job_id, error, self._database.now(conn))
        self._wakeup.notify(job_topic(job_id))
        return refused

    def enforce_deadlines(self) -> list[str]:
        """Fail queued jobs that are late, and ask running ones to stop; returns the jobs: see `Deadlines.enforce`."""
        return self._deadlines.enforce()

    def replan(self, job_id: str) -> bool:
        """Give a queued job the fastest plan that fits the fleet now; False where there is none."""
        return self._replanner.replan(job_id)

    def feed_idle_workers(self) -> list[str]:
        """Replan jobs for workers that nothing queued fits; returns the jobs: see `Replanner.feed_idle_workers`."""
        return self._replanner.feed_idle_workers()

    def _recent_gpus(self, conn: Connection, now: float) -> list[Gpu]:
        """The fleet: a GPU that has been away for longer than the policy's memory no longer counts, if not stopped."""
        fleet = machines.gpus(conn, online_since=now - self._policy.worker_ttl_seconds)
        return [gpu for gpu in fleet if gpu.is_stopped or gpu.seen_at >= now - self._policy.gpu_memory_seconds]
