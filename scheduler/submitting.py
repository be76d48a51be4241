"""Putting jobs into the queue: check, rank and insert them, as many in one durable commit as come at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler import placement, rank
from scheduler.errors import IdempotencyMismatch, InvalidParameter, NoModel, SchedulerError, Unschedulable
from scheduler.footprints import Footprints, Predictor
from scheduler.grouping import GroupCommit
from scheduler.limits import TenantLimits
from scheduler.offers import offers
from scheduler.policy import Policy
from scheduler.quotas import Quotas
from scheduler.records import Job, NewJob
from scheduler.shape import Shape
from scheduler.states import JobStatus
from scheduler.store import demand, reads, submission
from scheduler.store.database import Database
from scheduler.store.demand import RefusedSubmit
from scheduler.store.script import Trip
from scheduler.store.submission import Fleet, Standing
from scheduler.windows import Windows, earliest

_LARGEST_GROUP = 256


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
        self._quotas = Quotas(policy.max_queued)

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
            standings = self._standings(trip, new)
            limits = {tenant: standing.limits for tenant, standing in standings.items()}
            admission = self._quotas.admission(submission.Counter(trip), fleet, limits, [one.tenant for one in new])
            made: dict[str, Job] = {}
            answers: list[Job | str | Exception] = []  # a job, the id of one made before, or why there is none
            for one in new:
                key = (one.tenant, one.idempotency_key)
                if key in known:
                    answers.append(_replay(one, *known[key]))
                    continue
                standing = standings[one.tenant]
                answer = (
                    _too_high(one, standing.limits)
                    or admission.refusal(one.tenant)
                    or self._ranked(one, fleet, predictor, standing, now)
                )
                answers.append(answer)
                if isinstance(answer, Job):
                    made[one.id] = answer
                    admission.admit(one.tenant)
                    if one.idempotency_key is not None:
                        known[key] = (one.payload_sha256, one.id)
            clocks = [standing.clock for standing in standings.values() if standing.clock is not None]
            demand.record(trip, _impossible(new, answers), now)
            submission.insert(trip, [(one, made[one.id]) for one in new if one.id in made], clocks)
        return [self._answer(answer, made) for answer in answers]

    def _standings(self, trip: Trip, new: Sequence[NewJob]) -> dict[str, Standing]:
        """The owners of `new`, each with the limits in force: its own, else the policy's."""
        tenants, defaults = sorted({one.tenant for one in new}), self._policy.tenant_limits
        known = submission.standings(trip, tenants)
        unknown = Standing(defaults, None)
        return {
            tenant: Standing(known[tenant].limits.over(defaults), known[tenant].clock) if tenant in known else unknown
            for tenant in tenants
        }

    def _ranked(
        self, new: NewJob, fleet: Fleet, predictor: Predictor, standing: Standing, now: float
    ) -> Job | SchedulerError:
        """The job as it goes into the queue, or why it cannot."""
        policy = self._policy
        offered = offers(fleet.models.get(new.model), fleet.gpus, new.params, predictor)
        if not offered:
            return NoModel(f"no GPU serves {new.model} at present")
        try:
            choice = placement.choose(offered, policy.memory_class_bytes)
            ready_at = _ready_at(new, policy.off_peak, now)
        except SchedulerError as error:
            return error
        best = choice.offer.footprint
        clock = standing.clock
        virtual_at = clock.submitted(now, ready_at, best.seconds) if clock else ready_at
        weight, place = rank.place(policy, best, priority=new.priority, virtual_at=virtual_at)
        return Job(
            id=new.id,
            tenant=new.tenant,
            gate="" if standing.limits.max_running is None else new.tenant,
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
            not_before=ready_at if ready_at > now else 0.0,
            ready_at=ready_at,
            window=new.window,
            cancel_requested=False,
            deadline_at=new.deadline_at,
            retry_of=new.retry_of,
            webhook_url=new.webhook_url,
            webhook_events=tuple(new.webhook_events),
            result_ttl_seconds=new.result_ttl_seconds,
            gpu_id=None,
            gpu_name=None,
            gpu_kind=None,
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


def _impossible(new: Sequence[NewJob], answers: Sequence[object]) -> list[RefusedSubmit]:
    return [
        RefusedSubmit(one.model, Shape.of(one.params).key, answer.needed_bytes)
        for one, answer in zip(new, answers, strict=True)
        if isinstance(answer, Unschedulable)
    ]


def _ready_at(new: NewJob, windows: Windows | None, now: float) -> float:
    """When the job may start at the earliest; raises `InvalidParameter` where it never could."""
    ready_at = earliest(windows, new.window, max(now, new.not_before))
    if windows is not None and new.window is not None and new.deadline_at is not None and new.deadline_at <= ready_at:
        raise InvalidParameter("deadline", f"must be after the window opens, at {windows.told(ready_at)}")
    return ready_at


def _too_high(new: NewJob, limits: TenantLimits) -> InvalidParameter | None:
    highest = limits.max_priority
    if highest is None or new.priority <= highest:
        return None
    return InvalidParameter("priority", f"must be at most {highest:g} for tenant {new.tenant}, not {new.priority:g}")


def _replay(new: NewJob, payload_sha256: str, job_id: str) -> str | IdempotencyMismatch:
    if payload_sha256 == new.payload_sha256:
        return job_id
    return IdempotencyMismatch("Idempotency-Key was used before with another payload")
