"""The command tree of `reelq`."""

import importlib.metadata
import sys
from typing import Annotated

import typer

from app.cli import (
    account,
    advise,
    alerts,
    capacity,
    costs,
    events,
    gpus,
    jobs,
    keys,
    models,
    queue,
    serving,
    tenants,
    videos,
    webhooks,
)
from app.cli.console import EXIT_CODES
from app.cli.session import AsJson


def build() -> typer.Typer:
    """Return the command line with all its commands."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a bar's blocks on a Latin-1 terminal are no reason to fail
    cli = typer.Typer(
        name="reelq",
        help="Images to videos: asynchronous I2VGen-XL jobs behind a VRAM-aware queue.",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    cli.callback()(_root)
    for panel, commands in {
        "Run the service": (serving.up, serving.serve),
        "Make videos": (
            videos.submit,
            jobs.status,
            jobs.jobs,
            jobs.cancel,
            jobs.retry,
            jobs.delete,
            videos.download,
            jobs.estimate,
            account.account,
        ),
        "Operate GPUs": (
            gpus.gpus,
            gpus.drain,
            gpus.resume,
            capacity.capacity,
            costs.costs,
            alerts.alerts,
            advise.advise,
            events.events,
        ),
        "Operate the queue": (queue.queue, queue.prioritize, queue.preempt, models.models),
        "About": (version,),
    }.items():
        for command in commands:
            cli.command(rich_help_panel=panel, epilog=EXIT_CODES)(command)
    for name, group in {"keys": keys.commands, "tenants": tenants.commands}.items():
        cli.add_typer(group, name=name, rich_help_panel="Decide who may call")
    cli.add_typer(webhooks.group(), rich_help_panel="Make videos")
    return cli


def version(as_json: AsJson = False) -> None:
    """Show the version."""
    try:
        number = importlib.metadata.version("reelq")
    except importlib.metadata.PackageNotFoundError:
        number = "unknown, not installed"
    typer.echo(f'{{"version": "{number}"}}' if as_json else f"reelq {number}")


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
