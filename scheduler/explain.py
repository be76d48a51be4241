"""Why a job waits and how long it still will: the first thing that holds it back, as things are now. Pure, no I/O.

Nothing here is remembered from one look to the next: a cause that is gone is not told, and holds nothing off.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scheduler import outlook
from scheduler.contention import held_back
from scheduler.line import Standing, Waiting
from scheduler.moment import Moment, Quota
from scheduler.obstacles import at_limit, not_now, out_of_reach, unusable
from scheduler.outlook import Span
from scheduler.placement import Offer, fits
from scheduler.policy import Policy
from scheduler.seats import ready_workers, seats_of
from scheduler.starts import start
from scheduler.waits import WaitReason


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queued job's place (1 is next), why it waits, and when it should start and end.

    `position_exact` is False for an estimated place. Times are seconds since 1970, None where nobody can tell;
    `eta_seconds` is from now to the median start. The place counts all that rank above it. Of limits of running jobs
    the times know only that the job itself does not start before its own tenant has a place for one more.
    """

    position: int
    position_exact: bool
    wait: WaitReason
    eta_seconds: float | None
    start: Span | None
    finish: Span | None


def explain(
    job: Waiting,
    offers: Sequence[Offer],
    standing: Standing,
    moment: Moment,
    policy: Policy,
    quota: Quota | None = None,
) -> QueueInfo:
    """Explain a queued job; `offers` are those of the GPUs that run its model, under each plan that it allows.

    `quota` is that of its tenant, if there is a limit.
    """
    own = [_with_need(offer, job) for offer in offers if offer.footprint.plan == job.footprint.plan]
    fitting = [offer for offer in own if fits(offer, policy.memory_class_bytes)]
    usable = [offer for offer in fitting if offer.in_service and ready_workers(offer.gpu, job)]
    seats = [seat for offer in usable for seat in seats_of(offer, job, moment, policy)]
    gpus = [offer.gpu for offer in fitting]
    wait = (
        out_of_reach(job, own, fitting, _next_plan(job, offers, policy), policy)
        or not_now(job, gpus, moment, policy.off_peak)
        or unusable(job, gpus, [offer.gpu for offer in usable], seats)
        or at_limit(quota)
        or held_back(job, seats, standing, moment.now)
    )
    begin = None if moment.pause or moment.held else start(job, seats, standing, moment, quota)
    position, exact = standing.ahead + 1, standing.exact
    if begin is None:
        return QueueInfo(position, exact, wait, eta_seconds=None, start=None, finish=None)
    end = outlook.finish(begin, job.footprint.seconds, moment.pace)
    return QueueInfo(position, exact, wait, begin.p50, begin.shifted(moment.now), end.shifted(moment.now))


def _with_need(offer: Offer, job: Waiting) -> Offer:
    """The offer, with the working set that the job was queued with: what is predicted by now may be another."""
    return replace(offer, footprint=replace(offer.footprint, working_bytes=job.footprint.working_bytes))


def _next_plan(job: Waiting, offers: Sequence[Offer], policy: Policy) -> str | None:
    """Another plan of the job with which it would fit, if there is one."""
    others = [offer for offer in offers if offer.footprint.plan != job.footprint.plan]
    return next((offer.footprint.plan for offer in others if fits(offer, policy.memory_class_bytes)), None)
