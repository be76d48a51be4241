"""`reelq tenants`: who shares the service, and what each may do."""

import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import EXIT_CODES, USAGE, clean, console, fail, optional, print_json
from app.cli.store import ACTOR, WHERE, AsJson, Data, store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.tenants import Tenant

_WHAT = "Show tenants and set their limits."
commands = typer.Typer(help=f"{_WHAT} {WHERE}", short_help=_WHAT, no_args_is_help=True, epilog=EXIT_CODES)


@commands.command("list", epilog=EXIT_CODES)
def list_tenants(data: Data = None, as_json: AsJson = False) -> None:
    """Show the tenants that have keys or limits, with their jobs and the limits in force.

    Where a tenant has no limit of its own, the one of the settings (REELQ_TENANT_…) is in force.
    """
    with store(data) as scheduler:
        found = scheduler.tenants.list()
    if as_json:
        print_json({"data": [asdict(tenant) for tenant in found]})
    else:
        _show(found)


@commands.command("set", epilog=EXIT_CODES)
def set_limits(
    tenant: Annotated[str, typer.Argument(metavar="ID", help="The tenant's id; it need not be known yet.")],
    max_queued: Annotated[
        str | None,
        typer.Option(metavar="JOBS", help="How many of its jobs may wait; beyond, submits are answered 429."),
    ] = None,
    max_running: Annotated[
        str | None, typer.Option(metavar="JOBS", help="How many of its jobs may run at once; others wait.")
    ] = None,
    max_priority: Annotated[
        str | None, typer.Option(metavar="PRIORITY", help="The highest priority that it may ask for.")
    ] = None,
    share: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Its part of the fleet, in proportion to the shares of others.")
    ] = None,
    submits_per_minute: Annotated[str | None, typer.Option(metavar="N", help="How often it may submit.")] = None,
    requests_per_minute: Annotated[
        str | None, typer.Option(metavar="N", help="How often it may ask the server anything.")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Set limits of a tenant; those not named stay as they are, and `none` removes one.

    They hold within a second or so, for jobs that wait already too; but these keep their place and priority.
    """
    whole = {
        "max_queued": max_queued,
        "max_running": max_running,
        "submits_per_minute": submits_per_minute,
        "requests_per_minute": requests_per_minute,
    }
    given = {name: _number(name, text, int) for name, text in whole.items() if text is not None}
    real = {"max_priority": max_priority, "share": share}
    given |= {name: _number(name, text, float) for name, text in real.items() if text is not None}
    if not given:
        fail("say which limit to set, such as --max-running 2", USAGE)
    with store(data) as scheduler:
        limits = scheduler.tenants.get(tenant).limits
        changed = scheduler.tenants.set(tenant, replace(limits, **given), ACTOR)
    if as_json:
        print_json(asdict(changed))
    else:
        _show([changed])


def _number(name: str, text: str, kind: type[int] | type[float]) -> Any:
    if text == "none":
        return None
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        fail(f"--{name.replace('_', '-')} must be {wanted} or none, not {text!r}", USAGE)


def _show(tenants: "Iterable[Tenant]") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("tenant", no_wrap=True)
    for column in ("queued", "running", "priority", "share", "submits", "requests"):
        table.add_column(column, no_wrap=True, justify="right")
    for tenant in tenants:
        limits = tenant.in_force
        table.add_row(
            clean(tenant.id),
            _of(tenant.queued, limits.max_queued),
            _of(tenant.running, limits.max_running),
            optional(limits.max_priority, lambda most: f"up to {most:g}"),
            optional(limits.share, lambda share: f"{share:g}"),
            optional(limits.submits_per_minute, lambda rate: f"{rate}/min"),
            optional(limits.requests_per_minute, lambda rate: f"{rate}/min"),
        )
    console(sys.stdout).print(table)


def _of(jobs: int, most: int | None) -> str:
    return str(jobs) if most is None else f"{jobs} of {most}"
