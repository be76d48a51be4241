"""The operator's commands for the queue: queue, prioritize, preempt."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from app.cli.console import clean, console, optional, print_json
from app.cli.options import JobId, number
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session
from app.cli.tables import show_rows
from app.cli.wording import line
from app.formats import age, duration, size


class Action(StrEnum):
    """What `reelq queue` may be told to do."""

    PAUSE = "pause"
    RESUME = "resume"


def queue(
    action: Annotated[
        Action | None,
        typer.Argument(
            metavar="pause|resume", help="pause: no queued job starts, running ones go on; resume: they start again."
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why it is paused, for whoever asks why nothing starts.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show the queue; pause or resume it first, where told to.

    Ready jobs are counted by the memory that they need beside the resident model.
    """
    if (action is Action.PAUSE) != (reason is not None):
        raise typer.BadParameter("goes with pause, and pause needs it", param_hint="--reason")
    with session(url, api_key, as_json=as_json) as client:
        if reason is not None:
            found = client.pause_queue(reason)
        elif action is Action.RESUME:
            found = client.resume_queue()
        else:
            found = client.queue()
        if as_json:
            print_json(found)
        else:
            show_queue(found)


def prioritize(
    job_id: JobId,
    priority: Annotated[
        float, typer.Argument(parser=number, metavar="PRIORITY", help="Multiplies the job's weight in the queue.")
    ],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Give a queued job another priority."""
    with session(url, api_key, as_json=as_json) as client:
        job = client.prioritize(job_id, priority)
        if as_json:
            print_json(job)
        else:
            typer.echo(clean(f"{job['id']}  priority {job['priority']:g}, {line(job)}"))


def preempt(
    job_id: JobId,
    reason: Annotated[str | None, typer.Option(help="Why, for the log of events.")] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Stop a running job at its next step and put it back into the queue.

    That costs the job no attempt, and it goes on from there when its turn comes again; see also reelq prioritize.
    """
    with session(url, api_key, as_json=as_json) as client:
        job = client.preempt(job_id, reason)
        if as_json:
            print_json(job)
        else:
            typer.echo(clean(f"{job['id']}  {line(job)}; stops at its next step"))


def show_queue(queue: Mapping[str, Any]) -> None:
    """Print the queue: its switch and counts, a line for each class of jobs, two for each GPU that is kept."""
    show_rows(
        {
            "state": _state(queue),
            "ready": queue["ready"],
            "deferred": queue["deferred"],
            "running": queue["running"],
            "oldest": optional(queue["oldest_wait_seconds"], lambda seconds: f"waits {duration(seconds)}", ""),
        }
    )
    out = console(sys.stdout)
    if queue["classes"]:
        out.print()
        _show_classes(queue["classes"])
    for kept in queue["reservations"]:
        out.print()
        out.print(clean(kept["gpu"]), soft_wrap=True)
        what = f"  kept for {kept['job']}, {size(kept['reserved_bytes'])}, since {age(kept['made_at'])}"
        out.print(clean(what), soft_wrap=True)


def _state(queue: Mapping[str, Any]) -> str:
    if not queue["paused"]:
        return "open"
    return f"paused for {age(queue['paused_at'])} by {queue['paused_by']}: {queue['pause_reason']}"


def _show_classes(classes: list[Mapping[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("model", no_wrap=True)
    table.add_column("plan", no_wrap=True)
    table.add_column("up to", no_wrap=True, justify="right")
    table.add_column("jobs", no_wrap=True, justify="right")
    for one in classes:
        table.add_row(clean(one["model"]), clean(one["plan"]), size(one["up_to_bytes"]), str(one["jobs"]))
    console(sys.stdout).print(table)
