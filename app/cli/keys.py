"""`reelq keys`: make, list and revoke API keys."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import EXIT_CODES, USAGE, clean, console, fail, optional, print_json, say
from app.cli.durations import with_unit
from app.cli.store import ACTOR, WHERE, AsJson, Data, store
from app.formats import age, whole_second

if TYPE_CHECKING:
    from scheduler.keys import Key, Scope

_WHAT = "Make, list and revoke API keys."
commands = typer.Typer(help=f"{_WHAT} {WHERE}", short_help=_WHAT, no_args_is_help=True, epilog=EXIT_CODES)

_SCOPES = ("submit", "read")
_DAY_SECONDS = 86_400.0


@commands.command(epilog=EXIT_CODES)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for: the log of events shows it.")],
    tenant: Annotated[str, typer.Option(metavar="ID", help="Whose jobs it makes and sees.")] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="submit|read|admin",
            help="What it allows; repeatable; submit and read unless given. admin sees the jobs of all tenants.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        float | None, typer.Option(parser=with_unit, metavar="DURATION", help="How long it works, such as 12h or 90d.")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its secret, which is not stored: it cannot be shown again.

    With the first key the service stops being open: from then on every request needs one.
    """
    scopes = _scopes(scope or _SCOPES)
    with store(data) as scheduler:
        with scheduler.database.read() as conn:
            now = scheduler.database.now(conn)
        expires_at = None if expires is None else now + expires
        key, secret = scheduler.keys.create(name, tenant=tenant, scopes=scopes, actor=ACTOR, expires_at=expires_at)
    if as_json:
        print_json({**_shown(key), "secret": secret})
    else:
        say(f"{key.id} of tenant {key.tenant}, for: {', '.join(sorted(key.scopes))}")
        say(f"It works {optional(_shown(key)['expires_at'], lambda at: f'until {whole_second(at)}', 'until revoked')}.")
        say("Keep the secret: it cannot be shown again.")
        typer.echo(secret)


@commands.command("list", epilog=EXIT_CODES)
def list_keys(
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="Only keys of this tenant.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show the keys, those that work no more included; never their secrets."""
    with store(data) as scheduler:
        keys = scheduler.keys.list(tenant)
    if as_json:
        print_json({"data": [_shown(key) for key in keys]})
    elif keys:
        _show(keys)
    else:
        say("there are no keys; reelq keys create NAME makes one")


@commands.command(epilog=EXIT_CODES)
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, as `reelq keys list` shows it.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make a key useless from now on, for good."""
    with store(data) as scheduler:
        key = scheduler.keys.revoke(key_id, ACTOR)
    if as_json:
        print_json(_shown(key))
    else:
        typer.echo(clean(f"{key.id}  {key.name}, of tenant {key.tenant}: revoked"))


def _scopes(names: Sequence[str]) -> "frozenset[Scope]":
    from scheduler.keys import Scope

    for name in names:
        if name not in tuple(Scope):
            fail(f"--scope must be one of {', '.join(Scope)}, not {name!r}", USAGE)
    return frozenset(map(Scope, names))


def _shown(key: "Key") -> dict[str, Any]:
    from app.views import time_text

    times = {"expires_at": key.expires_at, "revoked_at": key.revoked_at, "used_at": key.used_at}
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created_at": time_text(key.created_at),
        **{name: None if at is None else time_text(at) for name, at in times.items()},
    }


def _show(keys: "Sequence[Key]") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("id", no_wrap=True)
    for column in ("tenant", "name", "scopes", "state", "used"):
        table.add_column(column)
    for key in keys:
        shown = _shown(key)
        used = optional(shown["used_at"], lambda at: f"{age(at)} ago", "never")
        cells = (shown["id"], shown["tenant"], shown["name"], ", ".join(shown["scopes"]), _state(key, shown), used)
        table.add_row(*map(clean, cells))
    console(sys.stdout).print(table)


def _state(key: "Key", shown: dict[str, Any]) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if not key.works_at(time.time()):
        return "expired"
    if key.expires_at is None:
        return "works"
    until = whole_second(shown["expires_at"])
    return f"until {until if key.expires_at - time.time() < _DAY_SECONDS else until.partition('T')[0]}"
