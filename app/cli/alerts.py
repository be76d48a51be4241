"""What is wrong: `reelq alerts`."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli.console import clean, console, print_json, say
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session
from app.formats import age

_STYLES = {"critical": "bold red", "warning": "yellow"}


def alerts(
    secret: Annotated[
        bool, typer.Option("--secret", help="Print the secret that the webhook for alerts is signed with, instead.")
    ] = False,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Replace that secret; for a day the old one signs beside the new one.")
    ] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show what is wrong with GPUs, jobs, the queue and disks, and what was in the last day."""
    with session(url, api_key, as_json=as_json) as client:
        if secret or rotate:
            found = client.rotate_alert_secret() if rotate else client.alert_secret()
            print_json(found) if as_json else typer.echo(found["secret"])
            return
        page = client.alerts()
        if as_json:
            print_json(page)
        elif page["data"]:
            for alert in page["data"]:
                _show(alert)
        else:
            say("no alerts, now or in the last day")


def _show(alert: Mapping[str, Any]) -> None:
    ended = alert["resolved_at"]
    when = f"ended {age(ended)} ago" if ended else f"for {age(alert['since'])}"
    out = console(sys.stdout)
    line = clean(f"{alert['severity']:<8}  {alert['rule']}  {alert['subject']}  {when}")
    out.print(line, style=None if ended else _STYLES.get(alert["severity"]), soft_wrap=True)
    out.print(clean(f"  {alert['message']}"), soft_wrap=True)
