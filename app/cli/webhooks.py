"""The commands about webhooks: webhooks list, deliveries, redeliver, enable, secret."""

import sys
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from app.cli.console import EXIT_CODES, clean, console, print_json, say
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session
from app.cli.tables import show_rows
from app.formats import age

_UNCUT = 10_000  # columns, more than any row has


class Status(StrEnum):
    """What `--status` takes."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


DeliveryId = Annotated[str, typer.Argument(metavar="ID", help="The delivery's id.")]


def group() -> typer.Typer:
    """Return `reelq webhooks` with its commands."""
    commands = typer.Typer(
        name="webhooks", help="Look after webhooks: where they go, and what became of them.", no_args_is_help=True
    )
    named: dict[str, Callable[..., None]] = {
        "list": endpoints,
        "deliveries": deliveries,
        "redeliver": redeliver,
        "enable": enable,
        "secret": secret,
    }
    for name, command in named.items():
        commands.command(name, epilog=EXIT_CODES)(command)
    return commands


def endpoints(url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show where webhooks go, and which of these endpoints are disabled."""
    with session(url, api_key, as_json=as_json) as client:
        page = client.webhooks()
        if as_json:
            print_json(page)
        elif page["data"]:
            _show_endpoints(page["data"])
        else:
            say("no webhook was sent yet")


def deliveries(
    delivery_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Show this delivery, with each try at it.")
    ] = None,
    job: Annotated[str | None, typer.Option("--job", metavar="ID", help="Only deliveries about this job.")] = None,
    status: Annotated[Status | None, typer.Option("--status", help="Only deliveries that stand so.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, the newest first.")] = 20,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show what was sent, or is to be."""
    with session(url, api_key, as_json=as_json) as client:
        if delivery_id is not None:
            found = client.delivery(delivery_id)
            print_json(found) if as_json else _show_delivery(found)
            return
        page = client.deliveries(job=job, status=status, limit=limit)
        if as_json:
            print_json(page)
        elif page["data"]:
            _show_deliveries(page["data"])
        else:
            say("no deliveries")


def redeliver(delivery_id: DeliveryId, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Send a delivery once more, whatever has become of it."""
    with session(url, api_key, as_json=as_json) as client:
        found = client.redeliver(delivery_id)
        print_json(found) if as_json else _show_delivery(found)


def enable(
    endpoint_id: Annotated[str, typer.Argument(metavar="ID", help="The endpoint's id.")],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Send to a disabled endpoint again, all that has waited for it too."""
    with session(url, api_key, as_json=as_json) as client:
        found = client.enable_webhook(endpoint_id)
        print_json(found) if as_json else _show_endpoints([found])


def secret(
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Replace it; for a day the old one signs beside the new one.")
    ] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Print the secret that webhooks are signed with, as libraries for Standard Webhooks take it."""
    with session(url, api_key, as_json=as_json) as client:
        found = client.rotate_webhook_secret() if rotate else client.webhook_secret()
        print_json(found) if as_json else typer.echo(found["secret"])


def _show_endpoints(found: Iterable[Mapping[str, Any]]) -> None:
    out = console(sys.stdout)
    for one in found:
        out.print(clean(f"{one['id']}  {one['state']:<8}  {one['url']}"), soft_wrap=True)
        if one["reason"]:
            out.print(clean(f"  {one['reason']}"), soft_wrap=True)
        elif one["failing_since"]:
            out.print(clean(f"  fails for {age(one['failing_since'])}"), soft_wrap=True)


def _show_deliveries(found: Iterable[Mapping[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("id", "status", "type", "host", "job", "tries", "age"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("tries", "age") else "left")
    for one in found:
        host = urlsplit(one["url"]).netloc
        cells = (one["id"], _status(one), one["type"], host, one["job"], one["tries"], age(one["created_at"]))
        table.add_row(*(clean(cell) for cell in cells))
    out = console(sys.stdout)
    # Ids and hosts are there to be copied: rather a broken line than a cut one.
    out.width = max(out.width, out.measure(table, options=out.options.update(max_width=_UNCUT)).maximum)
    out.print(table)


def _show_delivery(one: Mapping[str, Any]) -> None:
    show_rows(
        {
            "id": one["id"],
            "status": "held: its endpoint is disabled" if one.get("held") else one["status"],
            "type": one["type"],
            "job": one["job"],
            "url": one["url"],
            "created": f"{one['created_at']} ({age(one['created_at'])} ago)",
            "next try": one["next_try_at"],
            "tries": [_try(each) for each in one["log"]],
        }
    )


def _status(one: Mapping[str, Any]) -> str:
    return "held" if one.get("held") else str(one["status"])


def _try(one: Mapping[str, Any]) -> str:
    return f"{one['at']}  {one['seconds']:.2f} s  {one['error'] or 'received'}"
