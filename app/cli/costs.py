"""What was spent: `reelq costs`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from app.cli.console import clean, console, optional, print_json, say
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session
from app.cli.tables import show_rows
from app.cli.times import ago
from app.formats import duration, money, percent, whole_second

Columns = Mapping[str, Callable[[Mapping[str, Any]], str]]


class By(StrEnum):
    """What `--by` takes."""

    GPU = "gpu"
    TENANT = "tenant"
    MODEL = "model"
    DAY = "day"


def costs(
    since: Annotated[
        datetime | None,
        typer.Option(parser=ago, metavar="TIME", help="From when on: 7d for seven days ago, or a time; default: 30d."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=ago, metavar="TIME", help="Until when, likewise; default: now.")
    ] = None,
    by: Annotated[By, typer.Option(help="What the table has a line for.")] = By.GPU,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show what GPUs and jobs have cost, what failed attempts took of it, and what was paid for idle time.

    At each moment a GPU's time is divided equally among the jobs that run on it. Amounts are in the currency of the
    prices that the server was told; without a price there are only seconds and energy.
    """
    if since is not None and until is not None and since >= until:
        raise typer.BadParameter("must be before --until", param_hint="--since")
    with session(url, api_key, as_json=as_json) as client:
        report = client.costs(since=since, until=until)
        if as_json:
            print_json(report)
            return
        show_rows(_summary(report))
        lines = report[f"{by.value}s"]
        if lines:
            show_table(lines, _GPU_COLUMNS if by is By.GPU else _columns(by.value))
        else:
            say("no GPU was online in this time")


def show_table(lines: Sequence[Mapping[str, Any]], columns: Columns) -> None:
    """Print a line for each of `lines` below the names of the columns; all but the first column stand to the right."""
    cells = [list(columns), *([clean(show(line)) for show in columns.values()] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    out = console(sys.stdout)
    out.print()
    for index, (first, *rest) in enumerate(cells):
        numbers = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        words = "  ".join((f"{first:<{widths[0]}}", *numbers))
        out.print(words.rstrip(), style=None if index else "bold", soft_wrap=True)


def amount(value: float | None) -> str:
    """Return an amount of money as people read it, `-` where it is not known."""
    return optional(value, money)


def _summary(report: Mapping[str, Any]) -> dict[str, str]:
    total, jobs = report["total"], report["jobs"]
    priced = total["cost"] is not None
    failed = f", {amount(jobs['failed_cost'])} of it for failed attempts" if jobs["failed_cost"] else ""
    return {
        "since": whole_second(report["since"]),
        "until": whole_second(report["until"]),
        "videos": f"{jobs['videos']}, of {jobs['attempts']} attempts",
        "online": f"{duration(total['online_seconds'])}, idle for {duration(total['idle_seconds'])}",
        "stages": ", ".join(
            f"{one['stage']} {percent(one['share'])}" for one in report["stages"] if one["share"] >= 0.01
        ),
        "cost": f"{amount(total['cost'])}, {amount(total['cost_per_video'])} a video"
        if priced
        else "no price is known",
        "jobs": f"{amount(jobs['cost'])}{failed}" if priced else "",
        "idle": amount(total["idle_cost"]) if priced else "",
        "month": f"{amount(total['projected_month'])} at this pace" if priced else "",
        "energy": _energy(total),
    }


def _energy(total: Mapping[str, Any]) -> str:
    if total["energy_kwh"] is None:
        return ""
    price = total["energy_cost"]
    return f"{total['energy_kwh']:.3g} kWh" + (f", {amount(price)} on top" if price is not None else "")


def _price(gpu: Mapping[str, Any]) -> str:
    price = gpu["price"]
    if price is None:
        return "-"
    return f"{price['terms']} {amount(price['hour'])}" if price["terms"] else amount(price["hour"])


def _columns(name: str) -> Columns:
    return {
        name: lambda line: str(line["name"]),
        "videos": lambda line: str(line["videos"]),
        "attempts": lambda line: str(line["attempts"]),
        "GPU time": lambda line: duration(line["gpu_seconds"]),
        "failed": lambda line: duration(line["failed_gpu_seconds"]),
        "cost": lambda line: amount(line["cost"]),
        "failed cost": lambda line: amount(line["failed_cost"]),
        "a video": lambda line: amount(line["cost_per_video"]),
    }


_GPU_COLUMNS: Columns = {
    "gpu": lambda gpu: str(gpu["gpu"]),
    "hour": _price,
    "online": lambda gpu: duration(gpu["online_seconds"]),
    "busy": lambda gpu: duration(gpu["busy_seconds"]),
    "idle": lambda gpu: duration(gpu["idle_seconds"]),
    "cost": lambda gpu: amount(gpu["cost"]),
    "idle cost": lambda gpu: amount(gpu["idle_cost"]),
}
