"""The log of what happened, one line an event."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli.console import INTERRUPTED, OK, clean, print_json, say
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session

_TYPE_COLUMNS = 20  # job.cancel_requested


def events(
    after: Annotated[int, typer.Option(min=0, help="Only events past this position.")] = 0,
    job_id: Annotated[str | None, typer.Option("--job", metavar="ID", help="Only events of this job.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as things happen, until Ctrl-C.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show what happened to jobs, GPUs, models and the queue, oldest first.

    A line has the time, what happened to what, who asked for it, and more. --json prints a line for each.
    """
    with session(url, api_key, as_json=as_json) as client:
        try:
            for event in client.events(after, job_id, follow=follow):
                print_json(event) if as_json else typer.echo(line(event))
                after = event["position"]
        except KeyboardInterrupt:
            say(f"go on from here with --after {after}")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # whoever reads it, `head` say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(OK) from None


def line(event: Mapping[str, Any]) -> str:
    """Return an event as one line: time, type, subject, who, what."""
    time = event["at"].partition(".")[0] + "Z"
    what = " ".join(f"{name}={_value(value)}" for name, value in event["data"].items() if value is not None)
    words = f"{time}  {event['type']:<{_TYPE_COLUMNS}}  {event['subject']}  {event['actor'] or '-'}  {what}"
    return clean(words).rstrip()


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
