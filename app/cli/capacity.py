"""How many GPUs the work wants: `reelq capacity`."""

import sys
from collections.abc import Mapping
from typing import Any

from app.cli.console import clean, console, print_json, say
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session
from app.formats import age, whole_second


def capacity(url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show how many GPUs the work that is due wants, how many there are, and what was started and stopped."""
    with session(url, api_key, as_json=as_json) as client:
        found = client.capacity()
    if as_json:
        print_json(found)
    elif not found["enabled"]:
        say("nothing starts or stops GPUs here: see the setting capacity_command")
    elif found["wanted"] is None:
        say("nothing is decided yet")
    else:
        _show(found)


def _show(found: Mapping[str, Any]) -> None:
    out = console(sys.stdout)
    bounds = f"at least {found['minimum']} and at most {found['maximum']}"
    out.print(f"wanted {found['wanted']}, online {found['online']}, {bounds}", soft_wrap=True)
    out.print(clean(f"  for {age(found['since'])}: {found['reason']}"), soft_wrap=True)
    if found["cooldown_until"]:
        out.print(f"  what was started may come until {whole_second(found['cooldown_until'])}", soft_wrap=True)
    for call in found["calls"]:
        out.print(clean(_line(call)), style="yellow" if call["status"] == "pending" else None, soft_wrap=True)


def _line(call: Mapping[str, Any]) -> str:
    what = f"{call['count']} more" if call["host"] is None else f"{call['host']} ({', '.join(call['gpus'])})"
    failed = f"; try {call['tries']}: {call['error']}" if call["error"] else ""
    return f"{call['action']:<5}  {call['status']:<7}  {age(call['asked_at'])} ago  {what}  {call['reason']}{failed}"
