"""What to do about hardware."""

from typing import Annotated

from fastapi import APIRouter, Query

from app import schemas as api
from app.advice import parse_growth, report
from app.cards import read_cards
from app.context import Shared
from app.openapi import problems
from app.queries import KnownParameters
from app.times import parse_time
from scheduler.advice import advise

router = APIRouter(prefix="/v1/admin", tags=["admin"])


@router.get("/advice", summary="Advise on hardware", responses=problems(422, 503), dependencies=[KnownParameters])
def get_advice(
    context: Shared,
    since: Annotated[str | None, Query(description="When it begins (RFC 3339); 7 days before its end")] = None,
    until: Annotated[str | None, Query(description="When it ends (RFC 3339); now")] = None,
    growth: Annotated[
        str | None,
        Query(description="The growth to expect, `high`, `low` or a share a month such as 0.2; the measured trend"),
    ] = None,
    card_price: Annotated[
        float | None,
        Query(ge=0, allow_inf_nan=False, description="What a card would cost, to see when it is paid for"),
    ] = None,
) -> api.AdviceReport:
    """Return whether to buy hardware, change software, or leave everything as it is, and what that rests on.

    The load of a GPU is the larger of its peak memory's share and its mean utilisation. The most loaded GPU's, against
    the growth of the work, gives the verdict; attempts that run out of memory, and GPUs that wait for data or for work,
    may overrule it. The arrivals of this time are replayed on the fleet with each of the cards that the settings name.
    Without parameters, the advice may be as old as 50 times what making it took; `until` tells.
    """
    evidence, settings = context.scheduler.evidence, context.settings
    if since is None and until is None and growth is None and card_price is None:
        recorded = context.advised.get(None, lambda: evidence.read(settings.prices, cards=read_cards(settings.cards)))
        return report(advise(recorded.evidence), recorded)
    recorded = evidence.read(
        settings.prices,
        since=None if since is None else parse_time("since", since),
        until=None if until is None else parse_time("until", until),
        growth=None if growth is None else parse_growth(growth),
        card_price=card_price,
        cards=read_cards(settings.cards),
    )
    return report(advise(recorded.evidence), recorded)
