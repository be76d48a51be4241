"""What to do about hardware: `reelq advise`."""

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from app.cli.console import clean, console, optional, print_json
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session
from app.cli.tables import show_rows
from app.cli.times import ago
from app.formats import duration, money, percent, size, whole_second


def advise(
    since: Annotated[
        datetime | None,
        typer.Option(parser=ago, metavar="TIME", help="From when on: 2d for two days ago, or a time; default: 7d."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=ago, metavar="TIME", help="Until when, likewise; default: now.")
    ] = None,
    growth: Annotated[
        str | None,
        typer.Option(metavar="GROWTH", help="What to expect: high, low, or a share a month such as 0.2."),
    ] = None,
    card_price: Annotated[
        float | None, typer.Option(min=0, help="What a card would cost, to see when it pays.")
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Say whether to buy hardware, change software, or leave everything as it is, and what that rests on.

    The load of a GPU is the larger of its peak memory's share and its mean utilisation. Without --growth the trend of
    the work is measured.
    """
    with session(url, api_key, as_json=as_json) as client:
        found = client.advice(since=since, until=until, growth=growth, card_price=card_price)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: Mapping[str, Any]) -> None:
    out = console(sys.stdout)
    out.print(clean(found["advice"]), soft_wrap=True, style="bold")
    out.print()
    show_rows(
        {
            "sure": clean(f"{found['sureness']}: {found['sureness_reason']}"),
            "since": whole_second(found["since"]),
            "until": whole_second(found["until"]),
            "load": optional(found["load"], percent),
            "growth": _growth(found["growth"]),
            "gpus": [clean(_gpu(gpu)) for gpu in found["gpus"]],
            "steps": [_step(step) for step in found["steps"]],
            "buy?": [clean(f"{_YES[one['active']]}, {one['name']}: {one['reason']}") for one in found["signals"]],
            "refused": [clean(_refused(one)) for one in found["refused"]],
            "remedies": [_remedy(one) for one in found["remedies"]],
            "cards": _cards(found["comparison"]),
        }
    )


_YES = {True: "yes", False: "no", None: "not known"}


def _refused(one: Mapping[str, Any]) -> str:
    what = f"{one['shape'] or 'other shapes'}: {one['jobs']} jobs, {one['code']}"
    if not one.get("at_submit"):
        return what
    return f"{what} at submit, needed up to {size(one['needed_bytes'])}"


def _growth(growth: Mapping[str, Any]) -> str:
    level = {True: "high", False: "low", None: "not known"}[growth["high"]]
    monthly = optional(growth["monthly"], lambda share: f", {share * 100:+.0f} % a month", "")
    return f"{level}{monthly}, {growth['source']}"


def _gpu(gpu: Mapping[str, Any]) -> str:
    return (
        f"{gpu['gpu']} ({gpu['name']}): {gpu['diagnosis']}, memory {optional(gpu['memory_share'], percent)}, "
        f"utilisation {optional(gpu['utilization_percent'], lambda value: f'{value:.0f}%')}, "
        f"at work {percent(gpu['busy_share'])}"
    )


def _step(step: Mapping[str, Any]) -> str:
    value = optional(step["value"], lambda share: f" ({share * 100:.0f}%, limit {step['limit'] * 100:.0f}%)", "")
    return f"{step['question']} {_YES[step['answer']]}{value}"


def _cards(comparison: Mapping[str, Any] | None) -> list[str]:
    if comparison is None:
        return []
    asked = f"the last {comparison['arrivals']} arrivals on the fleet as it is: {_fleet(comparison['as_is'])}"
    return [asked, *(clean(f"with {card['name']}: {_fleet(card['fleet'])}") for card in comparison["cards"])]


def _fleet(fleet: Mapping[str, Any]) -> str:
    cost = optional(fleet["cost_per_video"], lambda amount: f", {money(amount)} a video", "")
    lost = f", {fleet['impossible']} jobs do not fit" if fleet["impossible"] else ""
    waits = f"wait {duration(fleet['wait_seconds_mean'])}, 95% within {duration(fleet['wait_seconds_p95'])}"
    return f"up to {fleet['videos_per_hour']:.0f} videos an hour, {waits}{cost}{lost}"


def _remedy(one: Mapping[str, Any]) -> str:
    return (
        f"{one['name']}: peak {size(one['peak_bytes'])} to {size(one['new_peak_bytes'])}, a video "
        f"{duration(one['seconds'])} to {duration(one['new_seconds'])}, for {percent(one['share'])} of the attempts"
    )
