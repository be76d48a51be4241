"""The front end as one ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import anyio
from fastapi import FastAPI
from starlette.middleware import Middleware

from app import images, problems
from app.alarms import alarm
from app.background import Chore, maintaining
from app.context import Context
from app.dashboard.views import MODULES as PAGES
from app.door import Door
from app.gate import Gate
from app.intake import Intake
from app.keeping import keeping
from app.looks import Looks
from app.metrics import Metrics
from app.middleware import BodyLimit, RequestEnvelope, SiteGuard
from app.openapi import document, operation_id
from app.places import Places
from app.provisioning import provisioner
from app.routes import (
    account,
    admin,
    advice,
    alerts,
    capacity,
    costs,
    events,
    health,
    jobs,
    many,
    media,
    metrics,
    models,
    queue,
    submitting,
    timeline,
    videos,
    watching,
    webhooks,
)
from app.settings import FrontEndSettings
from app.traced import SubmitSpans
from app.uploads import body_limit
from app.watch import ChangeHub
from app.webhooks import delivering
from scheduler.alarm import EVERY_SECONDS
from scheduler.service import Scheduler
from scheduler.tracing import open_tracer

_REAP_SECONDS = 1.0
_SWEEP_SECONDS = 600.0
_PRUNE_SECONDS = 10.0
_RERANK_SECONDS = 3600.0


def create_app(scheduler: Scheduler, settings: FrontEndSettings) -> FastAPI:
    """Build the application on an open scheduler, which stays the caller's to close.

    Its lifespan runs the reaper, the off-peak window's keeper, the sweeper, the pruner, the reranker, the alarm, the
    keeper of capacity and the change hub. `app.state.context` is its `Context`.
    """
    images.use_pixel_limit(settings.max_image_pixels)
    context = _context(scheduler, settings)
    door = context.door
    app = FastAPI(
        title="reelq",
        version=_version(),
        description="Turns an image and a prompt into a video, as a job.",
        lifespan=_lifespan,
        docs_url=None,  # FastAPI's page loads its scripts from another site
        redoc_url=None,
        generate_unique_id_function=operation_id,
        middleware=[
            *([Middleware(SubmitSpans, tracer=context.tracer)] if context.tracer.on else []),
            Middleware(RequestEnvelope, traffic=context.metrics.traffic),
            Middleware(Gate, door=door, ratelimits=scheduler.ratelimits),
            Middleware(SiteGuard, any_host=settings.trusted_network, has_keys=lambda: door.closed),
            Middleware(BodyLimit, limit=body_limit(settings.max_image_bytes)),
        ],
    )
    app.state.context = context
    problems.install(app)
    # The first that matches is taken: what is called most stands first.
    modules = (
        watching,
        submitting,
        jobs,
        many,
        media,
        videos,
        models,
        account,
        webhooks,
        admin,
        alerts,
        capacity,
        costs,
        advice,
        timeline,
        queue,
        events,
        health,
        metrics,
        *PAGES,
    )
    for module in modules:
        app.include_router(module.router)
    app.state.routes = [route for module in modules for route in module.router.routes]
    app.openapi = partial(document, app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def _context(scheduler: Scheduler, settings: FrontEndSettings) -> Context:
    keeper = provisioner(scheduler, settings)
    return Context(
        scheduler=scheduler,
        settings=settings,
        hub=ChangeHub(scheduler.wakeup, scheduler.queue.versions),
        door=Door(scheduler.keys, scheduler.sessions, scheduler.tenants),
        metrics=Metrics(scheduler, settings, _version(), keeper),
        looks=Looks(
            scheduler.queue,
            at_once=scheduler.database.is_sqlite,
            place_seconds=settings.place_seconds,
            prices=settings.prices,
        ),
        intake=Intake(settings, scheduler.blobs),
        capacity=keeper,
        submissions=Places(settings.max_uploads, "submissions"),
        fetches=Places(max(1, settings.max_uploads // 2), "submissions of images by URL"),
        tracer=open_tracer("front end"),
        submitting=anyio.CapacityLimiter(settings.max_uploads),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    await context.door.look()
    context.hub.start()
    try:
        reap = Chore("reaper", context.scheduler.reaper.run_once, _REAP_SECONDS)
        put_off = Chore("off-peak", context.scheduler.off_peak.run_once, _REAP_SECONDS)
        sweep = Chore("sweeper", context.scheduler.sweeper.run_once, _SWEEP_SECONDS)
        prune = Chore("pruner", context.scheduler.pruner.run_once, _PRUNE_SECONDS, routine=True)
        rerank = Chore("reranker", context.scheduler.control.rerank, _RERANK_SECONDS)
        watch = Chore("alarm", alarm(context.scheduler, context.settings).run_once, EVERY_SECONDS)
        with maintaining(reap, put_off, sweep, prune, rerank, watch), delivering(context), keeping(context):
            yield
    finally:
        context.hub.release()
        context.hub.stop()
        context.looks.close()
        context.tracer.close()


def _version() -> str:
    try:
        return version("reelq")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
