"""What every route needs, made once by `create_app`."""

from dataclasses import dataclass
from typing import Annotated

import anyio
from fastapi import Depends, Request

from app.settings import FrontEndSettings
from app.watch import ChangeHub
from scheduler.service import Scheduler


@dataclass(frozen=True, slots=True)
class Context:
    """The scheduler, the settings, and what is shared between requests."""

    scheduler: Scheduler
    settings: FrontEndSettings
    hub: ChangeHub
    image_slots: anyio.CapacityLimiter  # how many uploads are decoded at once: each may need 500 MB


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Shared = Annotated[Context, Depends(_context)]
