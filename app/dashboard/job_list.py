"""Jobs: the list of them, newest first."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app import views
from app.access import Caller
from app.context import Context, Shared
from app.dashboard import job_values
from app.dashboard.listing import Asked, listed
from app.dashboard.rendering import render
from scheduler.errors import NoModel
from scheduler.states import JobStatus

_REFRESH_SECONDS = 2.0
_SLOW_REFRESH_SECONDS = 10.0  # of a search, which looks at many jobs, and of those that are not the newest
_MOST_COUNTED = 1000

router = APIRouter(include_in_schema=False)


@router.get("/jobs")
def get_jobs(request: Request, context: Shared, caller: Caller, asked: Annotated[Asked, Query()]) -> Response:
    """Return a page of the caller's jobs; the operator's is of all tenants' unless it names one."""
    tenant = asked.tenant if caller.is_admin else caller.tenant
    page = listed(context.scheduler.queue, asked, tenant)
    places = context.scheduler.queue.explain_all(page.jobs)
    prices = context.settings.prices
    costs = [views.job_cost(job, prices) for job in page.jobs]
    return render(
        request,
        caller,
        "jobs.html",
        title="Jobs",
        refresh_seconds=_REFRESH_SECONDS if asked.newest and not asked.narrowed else _SLOW_REFRESH_SECONDS,
        asked=asked,
        page=page,
        jobs=list(zip(page.jobs, places, costs, strict=True)),
        tabs=_tabs(context, asked, tenant),
        models=_models(context, asked),
        most=_MOST_COUNTED,
        priced=prices.default is not None or bool(prices.gpus),
        values=job_values,
        now=time.time(),
    )


def _tabs(context: Context, asked: Asked, tenant: str | None) -> list[tuple[str, str, bool, int | None]]:
    """Each state's name, address, whether it is the one shown, and where that is cheap how many jobs are in it."""
    counts = {} if asked.narrowed else context.scheduler.activities.counts(tenant, _MOST_COUNTED)
    tabs: list[tuple[str, str, bool, int | None]] = [("All", asked.link(status=None), asked.status is None, None)]
    for status in JobStatus:
        link = asked.link(status=status.value)
        tabs.append((status.value.capitalize(), link, asked.status is status, counts.get(status)))
    return tabs


def _models(context: Context, asked: Asked) -> list[str]:
    """The models to choose from: those that are served, and the one that is asked for."""
    try:
        served = list(context.scheduler.queue.models())
    except NoModel:
        served = []
    return served if asked.model is None or asked.model in served else [asked.model, *served]
