"""What every route needs, made once by `create_app`."""

from dataclasses import dataclass, field
from typing import Annotated

import anyio
from fastapi import Depends, Request

from app.door import Door
from app.intake import Intake
from app.looks import Looks
from app.metrics import Metrics
from app.places import Places
from app.settings import FrontEndSettings
from app.watch import ChangeHub
from scheduler.bills import Bill
from scheduler.evidence import Recorded
from scheduler.provision import Provisioner
from scheduler.remembered import Remembered
from scheduler.service import Scheduler
from scheduler.tracing import Tracer


@dataclass(frozen=True, slots=True)
class Context:
    """The scheduler, the settings, and what is shared between requests."""

    scheduler: Scheduler
    settings: FrontEndSettings
    door: Door
    hub: ChangeHub
    metrics: Metrics
    looks: Looks
    intake: Intake
    capacity: Provisioner | None  # where a hook starts and stops GPUs
    submissions: Places
    fetches: Places  # submissions whose image comes from a URL: they may wait long for it
    tracer: Tracer
    submitting: anyio.CapacityLimiter  # as many threads as there may be submissions: some wait for a URL or a disk
    # What takes long where there is much: the reports until now, used for 50 times as long as they took. By the name
    # of what a page lets its reader choose, of which there are few; None: the API's.
    spent: Remembered[str | None, Bill] = field(default_factory=lambda: Remembered(0.0))
    advised: Remembered[str | None, Recorded] = field(default_factory=lambda: Remembered(0.0))


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Shared = Annotated[Context, Depends(_context)]
