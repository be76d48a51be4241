"""Overview: how much waits, runs and has ended, and what each GPU does."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.context import Context, Shared
from app.dashboard import charts, pages
from app.dashboard.memory import segments
from app.dashboard.rendering import render
from app.door import Principal
from scheduler.activity import Activity
from scheduler.states import JobStatus

_REFRESH_SECONDS = 2.0
_OWN_JOBS = 20

router = APIRouter(tags=["health"])


@router.get("/", summary="What this is", response_class=JSONResponse)
def get_root(request: Request, context: Shared) -> Response:
    """Return the name, the version and where to go on; to a browser, the overview."""
    if pages.wanted(request.scope):
        caller: Principal = request.scope["state"]["principal"]
        return _overview(request, context, caller)
    links = {
        "jobs": "/v1/jobs",
        "models": "/v1/models",
        "estimates": "/v1/estimates",
        "gpus": "/v1/admin/gpus",
        "health": "/healthz",
        "ready": "/readyz",
        "openapi": "/openapi.json",
    }
    return JSONResponse({"name": "reelq", "version": request.app.version, "links": links}, headers={"Vary": "Accept"})


def _overview(request: Request, context: Context, caller: Principal) -> Response:
    activity = context.scheduler.activities.look(None if caller.is_admin else caller.tenant)
    values: dict[str, Any] = {"activity": activity, "ended": _ended(activity)}
    values |= _of_service(context) if caller.is_admin else _of_tenant(context, caller)
    return render(request, caller, "overview.html", title="Overview", refresh_seconds=_REFRESH_SECONDS, **values)


def _of_service(context: Context) -> dict[str, Any]:
    scheduler = context.scheduler
    gpus = scheduler.fleet.gpus()
    return {
        "gpus": [(gpu, segments(gpu)) for gpu in gpus],
        "queue": scheduler.control.state(),
        "alerts": [alert for alert in scheduler.alerts.told() if alert.resolved_at is None],
    }


def _of_tenant(context: Context, caller: Principal) -> dict[str, Any]:
    running = context.scheduler.queue.list_jobs(tenant=caller.tenant, statuses=[JobStatus.RUNNING], limit=_OWN_JOBS)
    return {"running": running}


def _ended(activity: Activity) -> dict[str, Any]:
    """The chart of jobs that have ended."""
    spans = activity.ended
    top = charts.top_of([span.jobs for span in spans], least=5)
    columns = [[("good", span.succeeded), ("bad", span.failed), ("off", span.cancelled)] for span in spans]
    axis = charts.TimeAxis(spans[0].at, spans[-1].at + activity.span_seconds)
    return {"top": top, "ticks": axis.ticks(), "columns": list(zip(spans, charts.stacked(columns, top), strict=True))}
