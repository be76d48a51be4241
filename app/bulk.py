"""One thing done with many jobs: each is answered by itself, and what is refused of one does not keep the others."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog
from fastapi import Request, Response

from app import schemas as api
from app import views
from app.access import Principal
from app.answers import base_url
from app.context import Context
from app.errors import RequestError
from app.gate import bucket_of, too_often
from app.problems import as_refusal
from scheduler.errors import SchedulerError, StoreError
from scheduler.explain import QueueInfo
from scheduler.records import Job

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the job that was asked about: it, or another one in its place, or why there is none."""

    job_id: str
    made: Job | RequestError


def each(job_ids: Iterable[str], act: Callable[[str], Job]) -> list[Outcome]:
    """Do `act` for one job after another. Slow: call it in a thread.

    Once the store cannot be used, the rest is answered so without another try: each would wait for it in vain. An error
    that nobody foresaw is in the log, and the answer of that job.
    """
    outcomes: list[Outcome] = []
    away: RequestError | None = None
    for job_id in job_ids:
        made: Job | RequestError
        try:
            made = away or _done(act, job_id)
        except StoreError as error:
            made = away = as_refusal(error)
        except Exception:
            log.exception("one of several jobs failed", job_id=job_id)
            made = RequestError(500, "internal_error", f"the server made an error; its log has it with {job_id[:80]}")
        outcomes.append(Outcome(job_id, made))
    return outcomes


def _done(act: Callable[[str], Job], job_id: str) -> Job | RequestError:
    try:
        return act(job_id)
    except RequestError as error:
        return error
    except StoreError:
        raise
    except SchedulerError as error:
        return as_refusal(error)


def respond(request: Request, context: Context, outcomes: Iterable[Outcome]) -> Response:
    """Return the answer that tells of every outcome. Asks the store, so call it in a thread."""
    outcomes = list(outcomes)
    places = _places(context, [one.made for one in outcomes if isinstance(one.made, Job)])
    base, prices = base_url(request), context.settings.prices
    page = api.Page[api.JobOutcome](
        data=[
            api.JobOutcome(id=one.job_id, job=None, problem=_problem(one.made))
            if isinstance(one.made, RequestError)
            else api.JobOutcome(
                id=one.job_id, job=views.job(one.made, places.get(one.made.id), base, prices), problem=None
            )
            for one in outcomes
        ]
    )
    return Response(page.model_dump_json(), media_type="application/json")


def take_submit(context: Context, caller: Principal) -> None:
    """Count one more submit of the caller's tenant, for a call that makes several; raises `RequestError` 429."""
    per_minute = context.scheduler.tenants.in_force(caller.tenant).submits_per_minute
    if per_minute is None:
        return
    decision = context.scheduler.ratelimits.take(bucket_of("submit", caller.tenant), per_minute)
    if not decision.allowed:
        raise too_often("submit", per_minute, decision)


def _places(context: Context, jobs: list[Job]) -> dict[str, QueueInfo | None]:
    """Where the queued ones stand. What was done is told also where the store cannot say that any more."""
    try:
        return dict(zip((job.id for job in jobs), context.scheduler.queue.explain_all(jobs), strict=True))
    except StoreError:
        log.exception("the places of jobs are not known")
        return {}


def _problem(refused: RequestError) -> api.JobRefusal:
    after = (refused.headers or {}).get("Retry-After")
    return api.JobRefusal(
        status=refused.status_code,
        code=refused.code,
        detail=refused.detail,
        retry_after_seconds=None if after is None else int(after),
    )
