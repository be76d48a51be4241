"""What the GPUs cost, and for whom."""

from typing import Annotated

from fastapi import APIRouter, Query

from app import bills
from app import schemas as api
from app.context import Shared
from app.openapi import problems
from app.queries import KnownParameters
from app.times import parse_time

router = APIRouter(prefix="/v1/admin", tags=["admin"])


@router.get("/costs", summary="Report what was spent", responses=problems(422, 503), dependencies=[KnownParameters])
def get_costs(
    context: Shared,
    since: Annotated[str | None, Query(description="When it begins (RFC 3339); 30 days before its end")] = None,
    until: Annotated[str | None, Query(description="When it ends (RFC 3339); now")] = None,
) -> api.CostReport:
    """Return what GPUs and jobs have cost: by GPU, tenant, model, day, outcome and stage.

    A GPU costs its price for all the time that it is online. At each moment that is divided equally among the attempts
    which run on it, and is idle time where none does. Without a price only seconds and energy are told. Without times,
    the report may be as old as 50 times what making it took; `until` tells.
    """
    spending, prices = context.scheduler.spending, context.settings.prices
    if since is None and until is None:
        return bills.report(context.spent.get(None, lambda: spending.bill(prices)))
    found = spending.bill(
        prices,
        since=None if since is None else parse_time("since", since),
        until=None if until is None else parse_time("until", until),
    )
    return bills.report(found)
