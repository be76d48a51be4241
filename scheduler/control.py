"""The operator's hand on the queue: pause it, look at it, move a job or stop one, hold a model."""

import time
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, bindparam, func, select, update

from scheduler import held, rank
from scheduler.errors import InvalidState
from scheduler.params import check_priority, check_text
from scheduler.policy import Policy
from scheduler.records import Job, Reservation, ServedModel
from scheduler.states import JobStatus
from scheduler.store import eventlog, reads, rows, transitions
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.store.switches import switch
from scheduler.wakeup import JOBS_WAITING, Wakeup, job_topic

log = structlog.get_logger(__name__)

REASON_MAX_CHARS = 500
QUEUE = "queue"  # the subject of the queue's own events
_RERANKED_AT_ONCE = 500
_BREATH_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class ClassDepth:
    """The ready jobs of one memory class; `largest_bytes` is the most that one of them reserves."""

    model: str
    plan: str
    largest_bytes: int
    jobs: int


@dataclass(frozen=True, slots=True)
class QueueState:
    """The queue as a whole. `deferred` jobs are queued, but not to run yet."""

    paused_at: float | None
    pause_reason: str | None
    pause_actor: str | None
    ready: int
    deferred: int
    running: int
    oldest_wait_seconds: float | None
    classes: tuple[ClassDepth, ...]
    reservations: tuple[tuple[str, Reservation], ...]  # each with its GPU


class QueueControl:
    """What an operator does to the queue. Thread-safe; each method is one transaction."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup

    def pause(self, reason: str, actor: str) -> QueueState:
        """Let no queued job start until `resume`; running ones go on. Saying it again only replaces the reason."""
        reason = reason.strip()
        check_text("reason", reason, required=True, max_chars=REASON_MAX_CHARS)
        with self._database.write() as conn:
            now = self._database.now(conn)
            already = conn.execute(select(s.queue_state.c.paused_at)).scalar()
            switch(conn, paused_at=already or now, pause_reason=reason, pause_actor=actor)
            eventlog.append(conn, "queue.paused", QUEUE, now, actor=actor, data={"reason": reason})
        return self.state()

    def resume(self, actor: str) -> QueueState:
        """Let queued jobs start again; does nothing while the queue is not paused."""
        with self._database.write() as conn:
            if conn.execute(select(s.queue_state.c.paused_at)).scalar() is not None:
                switch(conn, paused_at=None, pause_reason=None, pause_actor=None)
                eventlog.append(conn, "queue.resumed", QUEUE, self._database.now(conn), actor=actor)
        self._wakeup.notify(JOBS_WAITING)
        return self.state()

    def state(self) -> QueueState:
        """Return the queue's switch, its depth by model and memory class, and its reservations."""
        with self._database.read() as conn:
            now = self._database.now(conn)
            switches = conn.execute(select(s.queue_state)).one_or_none()
            classes = conn.execute(_DEPTHS).all()
            block = self._policy.memory_class_bytes
            return QueueState(
                paused_at=switches.paused_at if switches else None,
                pause_reason=switches.pause_reason if switches else None,
                pause_actor=switches.pause_actor if switches else None,
                ready=sum(row.jobs for row in classes),
                deferred=conn.execute(_DEFERRED).scalar_one(),
                running=conn.execute(_RUNNING).scalar_one(),
                oldest_wait_seconds=_wait(conn, now),
                classes=tuple(ClassDepth(row.model, row.plan, row.memory_class * block, row.jobs) for row in classes),
                reservations=tuple((row.gpu_id, rows.reservation(row)) for row in conn.execute(_RESERVATIONS)),
            )

    def reprioritize(self, job_id: str, priority: float, actor: str) -> Job:
        """Give a queued job another priority, and the place that goes with it.

        Raises `NotFound`, `InvalidParameter`, or `InvalidState` once it is not queued any more.
        """
        check_priority(priority)
        with self._database.write() as conn:
            transitions.lock(conn, job_id)
            job = reads.job(conn, job_id)
            if job.status is not JobStatus.QUEUED:
                raise InvalidState(f"job {job_id} is {job.status.value}: only a queued job's priority can be changed")
            weight, place = rank.place(self._policy, job.footprint, priority=priority, virtual_at=job.virtual_at)
            now = self._database.now(conn)
            transitions.reprioritize(conn, job_id, priority, weight=weight, rank=place, actor=actor, now=now)
            job = reads.job(conn, job_id)
        self._wakeup.notify(job_topic(job_id))
        self._wakeup.notify(JOBS_WAITING)
        return job

    def preempt(self, job_id: str, actor: str, reason: str | None = None) -> Job:
        """Ask for a running job back at its next step: it waits at its old place, with its checkpoint.

        It costs the job no attempt, and what ranks higher goes first. Asking again changes nothing. Raises `NotFound`,
        `InvalidParameter`, or `InvalidState` for a job that does not run.
        """
        if reason is not None:
            check_text("reason", reason, max_chars=REASON_MAX_CHARS)
        with self._database.write() as conn:
            transitions.lock(conn, job_id)
            job = reads.job(conn, job_id)
            if job.status is not JobStatus.RUNNING:
                raise InvalidState(f"job {job_id} is {job.status.value}: only a running job can be preempted")
            now = self._database.now(conn)
            fence = transitions.request_release(conn, job_id, reason, actor=actor, now=now)
        if fence is not None:
            log.info("job preempted", job_id=job_id, attempt=job.attempts, lease=fence, reason=reason)
        self._wakeup.notify(job_topic(job_id))
        return job

    def hold_model(self, model_id: str, reason: str, actor: str) -> ServedModel:
        """Let no queued job of a model start until it is released; running ones go on.

        Saying it again only replaces the reason. Raises `NotFound` or `InvalidParameter`.
        """
        reason = reason.strip()
        check_text("reason", reason, required=True, max_chars=REASON_MAX_CHARS)
        with self._database.write() as conn:
            held.hold(conn, model_id, reason, actor, self._database.now(conn))
            return reads.models(conn)[model_id]

    def release_model(self, model_id: str, actor: str) -> ServedModel:
        """Let the jobs of a model start again; does nothing while it is not held. Raises `NotFound`."""
        with self._database.write() as conn:
            held.release(conn, model_id, actor, self._database.now(conn))
            served = reads.models(conn)[model_id]
        self._wakeup.notify(JOBS_WAITING)
        return served

    def rerank(self) -> int:
        """Give every queued or running job the rank of the order in force, if they have that of another one.

        In batches, so that claims go on meanwhile; returns how many ranks were made anew.
        """
        signature = f"{self._policy.order.value}, tau {self._policy.tau_seconds:g}"
        with self._database.read() as conn:
            if conn.execute(select(s.queue_state.c.order_signature)).scalar() == signature:
                return 0
        count, after = 0, ""
        while batch := self._rerank_after(after):
            count, after = count + len(batch), batch[-1]
            time.sleep(_BREATH_SECONDS)  # for the claims of other processes
        with self._database.write() as conn:
            switch(conn, order_signature=signature)
        return count

    def _rerank_after(self, after: str) -> list[str]:
        with self._database.write() as conn:
            found = conn.execute(_RANKED.where(s.job_states.c.job_id > after)).all()
            places = [
                {
                    "id": row.job_id,
                    "place": rank.rank(
                        self._policy,
                        job_weight=row.weight,
                        est_seconds=row.est_seconds,
                        priority=row.priority,
                        virtual_at=row.virtual_at,
                    ),
                }
                for row in found
            ]
            if places:
                conn.execute(_PLACE, places)
        return [row.job_id for row in found]


_states = s.job_states.c
_READY = (_states.status == JobStatus.QUEUED) & (_states.not_before == 0)
_DEPTHS = (
    select(_states.model, _states.plan, _states.memory_class, func.count().label("jobs"))
    .where(_READY)
    .group_by(_states.model, _states.plan, _states.memory_class)
    .order_by(_states.model, _states.plan, _states.memory_class)
)
_DEFERRED = select(func.count()).where(_states.status == JobStatus.QUEUED, _states.not_before > 0)
_RUNNING = select(func.count()).select_from(s.leases)
_RESERVATIONS = select(s.reservations).order_by(s.reservations.c.gpu_id)
_RANKED = (
    select(_states.job_id, _states.weight, _states.est_seconds, _states.priority, _states.virtual_at)
    .where(_states.status.in_([JobStatus.QUEUED, JobStatus.RUNNING]))
    .order_by(_states.job_id)
    .limit(_RERANKED_AT_ONCE)
    .with_for_update()
)
_PLACE = update(s.job_states).where(_states.job_id == bindparam("id")).values(rank=bindparam("place"))


def _wait(conn: Connection, now: float) -> float | None:
    """How long the job waits that was submitted first; ids sort by time, so an index knows it."""
    oldest = select(_states.ready_at).where(_READY).order_by(_states.job_id).limit(1)
    ready_at = conn.execute(oldest).scalar()
    return None if ready_at is None else max(0.0, now - ready_at)
