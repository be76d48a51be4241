"""Putting jobs into the queue: check, rank and insert them, as many in one durable commit as come at once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from scheduler import placement, rank
from scheduler.errors import IdempotencyMismatch, NoModel, QueueFull, SchedulerError
from scheduler.footprints import Footprints, Predictor
from scheduler.grouping import GroupCommit
from scheduler.offers import offers
from scheduler.policy import Policy
from scheduler.records import Job, NewJob
from scheduler.states import JobStatus
from scheduler.store import reads, submission
from scheduler.store.database import Database
from scheduler.store.submission import Fleet, TenantClock

_LARGEST_GROUP = 256
_COUNT_SECONDS = 1.0  # how long a count of the queue may be relied on
_COUNT_SHARE = 8  # and for how much of the room it found: one in so many
_COUNT_PAUSE = 20.0  # a full queue is not counted again before so many times as long as the count took

_SAMPLE = 100  # queued jobs whose mean time tells when to come again


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job, and whether this call made it (False: the idempotency key had made it before)."""

    job: Job
    created: bool


class Submissions:
    """Submits of many threads."""

    def __init__(self, database: Database, policy: Policy, footprints: Footprints) -> None:
        self._database = database
        self._policy = policy
        self._footprints = footprints
        # A store that cannot be used is everybody's trouble, and a commit whose answer was lost is not tried again.
        self._group = GroupCommit(
            self._commit, is_shared=lambda error: isinstance(error, SchedulerError), largest=_LARGEST_GROUP
        )
        self._passes = 0  # how many more jobs may come before the queue is counted again,
        self._count_at = 0.0  # and when it is at the latest
        self._full_until = 0.0

    def submit(self, new: NewJob) -> Submitted:
        """Commit one job, together with those that other threads submit meanwhile; raises what refuses it."""
        return self._group(new)

    def submit_many(self, new: Sequence[NewJob]) -> list[Submitted | Exception]:
        """Commit several jobs in as few transactions as possible; each is answered, or refused, by itself."""
        return self._group.answers(new)

    def _commit(self, new: Sequence[NewJob]) -> list[Submitted | Exception]:
        predictor = self._footprints.current()
        with self._database.trip() as trip:
            now, fleet = submission.begin(
                trip,
                new,
                online_seconds=self._policy.worker_ttl_seconds,
                memory_seconds=self._policy.gpu_memory_seconds,
            )
            known = submission.known_keys(trip, new)
            clocks = submission.clocks(trip, sorted({one.tenant for one in new}))
            room = self._room(submission.Counter(trip), len(new))
            full: QueueFull | None = None
            made: dict[str, Job] = {}
            answers: list[Job | str | Exception] = []  # a job, the id of one made before, or why there is none
            for one in new:
                key = (one.tenant, one.idempotency_key)
                if key in known:
                    answers.append(_replay(one, *known[key]))
                    continue
                if len(made) >= room:
                    full = full or self._full(submission.Counter(trip))
                    answers.append(full)
                    continue
                answer = self._ranked(one, fleet, predictor, clocks.get(one.tenant), now)
                answers.append(answer)
                if isinstance(answer, Job):
                    made[one.id] = answer
                    if one.idempotency_key is not None:
                        known[key] = (one.payload_sha256, one.id)
            submission.insert(trip, [(one, made[one.id]) for one in new if one.id in made], clocks.values())
        return [self._answer(answer, made) for answer in answers]

    def _ranked(
        self, new: NewJob, fleet: Fleet, predictor: Predictor, clock: TenantClock | None, now: float
    ) -> Job | SchedulerError:
        """The job as it goes into the queue, or why it cannot."""
        policy = self._policy
        offered = offers(fleet.models.get(new.model), fleet.gpus, new.params, predictor)
        if not offered:
            return NoModel(f"no GPU serves {new.model} at present")
        try:
            choice = placement.choose(offered, policy.memory_class_bytes)
        except SchedulerError as error:
            return error
        best = choice.offer.footprint
        ready_at = max(now, new.not_before)
        virtual_at = clock.submitted(now, ready_at, best.seconds) if clock else ready_at
        weight, place = rank.place(policy, best, priority=new.priority, virtual_at=virtual_at)
        return Job(
            id=new.id,
            tenant=new.tenant,
            model=new.model,
            prompt=new.prompt,
            params=new.params,
            metadata=dict(new.metadata),
            image_key=new.image_key,
            priority=new.priority,
            footprint=best,
            plan_reason=choice.reason,
            weight=weight,
            virtual_at=virtual_at,
            rank=place,
            memory_class=placement.memory_class(best.working_bytes, policy.memory_class_bytes),
            status=JobStatus.QUEUED,
            version=(1, 0),
            progress=None,
            attempts=0,
            max_attempts=policy.max_attempts,
            not_before=new.not_before if new.not_before > now else 0.0,
            ready_at=ready_at,
            cancel_requested=False,
            gpu_id=None,
            resumed_from_step=None,
            checkpoint_step=None,
            notices=(),
            measured=None,
            error=None,
            result=None,
            created_at=now,
            started_at=None,
            finished_at=None,
        )

    def _answer(self, answer: Job | str | Exception, made: dict[str, Job]) -> Submitted | Exception:
        if isinstance(answer, Exception):
            return answer
        if isinstance(answer, Job):
            return Submitted(answer, created=True)
        if answer in made:
            return Submitted(made[answer], created=False)
        try:
            with self._database.read() as conn:
                return Submitted(reads.job(conn, answer), created=False)
        except (
            SchedulerError
        ) as error:  # deleted meanwhile, say; what the others submitted is in the queue all the same
            return error

    def _room(self, counter: submission.Counter, wanted: int) -> int:
        """How many jobs may come now.

        A long queue is not counted for every job: for a second, an eighth of the room that was found may be filled
        unseen, so that several front ends together may exceed the limit by a few jobs in a hundred at most. Nor is a
        full one counted for every job that it refuses.
        """
        started = time.monotonic()
        if started < self._full_until:
            return 0
        if wanted <= self._passes and started < self._count_at:
            self._passes -= wanted
            return wanted
        room = self._policy.max_queued - counter.queued(self._policy.max_queued)
        counted = time.monotonic()
        self._passes = room // _COUNT_SHARE
        self._count_at = counted + _COUNT_SECONDS
        if room <= 0:
            self._full_until = counted + _COUNT_PAUSE * (counted - started)
        return room

    def _full(self, counter: submission.Counter) -> QueueFull:
        limit = self._policy.max_queued
        return QueueFull(
            f"the queue is full: {limit} jobs are waiting", retry_after_seconds=counter.mean_seconds(_SAMPLE)
        )


def _replay(new: NewJob, payload_sha256: str, job_id: str) -> str | IdempotencyMismatch:
    if payload_sha256 == new.payload_sha256:
        return job_id
    return IdempotencyMismatch("Idempotency-Key was used before with another payload")
