"""Moving a job that ran out of memory: what that says of its footprint, where it goes on, what its caller is told."""

from typing import Any

from sqlalchemy import Connection, select

from scheduler import out_of_memory, placement, rank
from scheduler.footprints import Predictor
from scheduler.learning import Observation
from scheduler.offers import offers
from scheduler.out_of_memory import OUT_OF_MEMORY, Failure
from scheduler.placement import Offer
from scheduler.plans import PLANS
from scheduler.policy import Policy
from scheduler.records import Checkpoint, JobError, Lease, Measured
from scheduler.states import JobStatus, Outcome, Source
from scheduler.store import checkpoints, machines, notices, observations, reads, transitions
from scheduler.store import schema as s

_ACTOR = "scheduler"


def observe(conn: Connection, lease: Lease, measured: Measured | None, now: float) -> None:
    """Record how much was not enough; what other jobs had in the same forward pass tells nothing of this one."""
    if measured is None or measured.working_peak_bytes is None or measured.sharing > 1:
        return
    a = s.attempts.c
    attempt = conn.execute(select(a.gpu_kind, a.shape).where(a.job_id == lease.job_id, a.lease == lease.fence)).one()
    seen = Observation(
        source=Source.OUT_OF_MEMORY,
        gpu_kind=attempt.gpu_kind,
        model=lease.model,
        plan=lease.plan,
        shape_key=attempt.shape,
        working_peak_bytes=measured.working_peak_bytes,
        step_seconds=None,
        fixed_seconds=None,
    )
    observations.add(conn, [seen], now)


def move(
    conn: Connection,
    lease: Lease,
    state: Any,
    *,
    measured: Measured | None,
    checkpoint: Checkpoint | None,
    stage: str,
    predictor: Predictor,
    policy: Policy,
    now: float,
) -> JobStatus:
    """Put the job back into the queue, at once and on another plan or a larger GPU; fail it when there is none left.

    `state` is its row, locked. It costs no attempt, unless the job had failed just so before: then its attempts bound
    how often it is moved, whatever else moves it back.
    """
    served, gpus = (
        reads.models(conn).get(lease.model),
        machines.gpus(conn, online_since=now - policy.worker_ttl_seconds),
    )
    fleet = [gpu for gpu in gpus if gpu.seen_at >= now - policy.gpu_memory_seconds]
    found = offers(served, fleet, lease.params, predictor)
    capacities = {(offer.gpu.info.id, offer.footprint.plan): offer.capacity_bytes for offer in found}
    earlier = [Failure(plan, capacities.get((gpu_id, plan), 0)) for plan, gpu_id in _failed(conn, lease.job_id)]
    here = Failure(lease.plan, capacities.get((lease.gpu_id, lease.plan), lease.reserved_bytes))
    burn = out_of_memory.is_known(here, earlier)
    best = out_of_memory.choose(found, [*earlier, here], policy.memory_class_bytes)

    names = {gpu.info.id: gpu.info.name for gpu in gpus}
    failed = f"ran out of memory while {stage} with plan {lease.plan} on {names.get(lease.gpu_id, lease.gpu_id)}"
    if best is None or (burn and state.attempts >= _max_attempts(conn, lease.job_id)):
        why = (
            "it has failed so before, and its attempts are used up" if best else "no plan or GPU is left that is leaner"
        )
        error = JobError(OUT_OF_MEMORY, f"{failed}; {why}")
        transitions.fail(conn, lease.job_id, lease.fence, error, now, measured=measured)
        return JobStatus.FAILED
    transitions.requeue(
        conn, lease.job_id, lease.fence, now,
        outcome=Outcome.RETRIED, not_before=0.0, burn_attempt=burn, error=JobError(OUT_OF_MEMORY, failed),
        measured=measured,
    )  # fmt: skip
    if checkpoint is not None:
        checkpoints.keep(conn, lease.job_id, lease.fence, checkpoint, now)
    _replan(conn, lease, state, best, policy, now)
    goes_on = f"{_start(conn, lease.job_id, best.footprint.plan)} with plan {best.footprint.plan}"
    notices.append(conn, lease.job_id, OUT_OF_MEMORY, f"{failed}; {goes_on}", now)
    return JobStatus.QUEUED


def _replan(conn: Connection, lease: Lease, state: Any, best: Offer, policy: Policy, now: float) -> None:
    need = best.footprint
    weight, place = rank.place(policy, need, priority=state.priority, virtual_at=state.virtual_at)
    chosen = "is to run where there is more" if need.plan == lease.plan else f"{need.plan} is leaner, and fits"
    transitions.replan(
        conn,
        lease.job_id,
        need,
        placement.memory_class(need.working_bytes, policy.memory_class_bytes),
        weight=weight,
        rank=place,
        reason=f"{lease.plan} ran out of memory; {chosen}",
        actor=_ACTOR,
        now=now,
    )


def _failed(conn: Connection, job_id: str) -> list[tuple[str, str]]:
    """The plan and GPU of each attempt of a job that ran out of memory."""
    a = s.attempts.c
    query = select(a.plan, a.gpu_id).where(a.job_id == job_id, a.error_code == OUT_OF_MEMORY).order_by(a.lease)
    return [(plan, gpu_id) for plan, gpu_id in conn.execute(query)]


def _max_attempts(conn: Connection, job_id: str) -> int:
    return int(conn.execute(select(s.jobs.c.max_attempts).where(s.jobs.c.id == job_id)).scalar_one())


def _start(conn: Connection, job_id: str, plan: str) -> str:
    saved = checkpoints.of(conn, job_id)
    if saved is None or PLANS[saved.plan].resumes != PLANS[plan].resumes:
        return "starts anew"
    return f"goes on from step {saved.step}"
