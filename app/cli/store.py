"""What the commands that use the database itself share: the settings, the store, and how their errors end them."""

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.cli.console import FAILED, USAGE, fail, say

if TYPE_CHECKING:
    from pydantic import ValidationError

    from scheduler.service import Scheduler
    from scheduler.settings import StoreSettings

Settings = TypeVar("Settings", bound="StoreSettings")
Data = Annotated[
    Path | None,
    typer.Option(help="Folder for the queue and the files; ~/.local/share/reelq unless set.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
ACTOR = "cli"  # who it was, in the log of events
WHERE = (
    "This works on the database itself, not through a server: run it where the service's settings are "
    "(REELQ_DATA_DIR, REELQ_DATABASE_URL, REELQ_CONFIG or reelq.toml)."
)

_SHOULD = re.compile(r"^(Input|String|URL|Path) should ")


@contextmanager
def store(data: Path | None) -> Iterator["Scheduler"]:
    """Open the store that the settings name, or the one in the folder `data`; errors end the command with one line."""
    from scheduler.errors import InvalidParameter, SchedulerError
    from scheduler.service import Scheduler
    from scheduler.settings import StoreSettings

    settings = read_settings(StoreSettings, **({} if data is None else {"data_dir": data}))
    try:
        with Scheduler.open(settings) as scheduler:
            yield scheduler
    except InvalidParameter as error:
        fail(str(error), USAGE)
    except SchedulerError as error:
        fail(str(error), FAILED)


def read_settings(kind: type[Settings], **given: Any) -> Settings:
    """Return the settings, `given` ones first; what is wrong with them ends the command with a line for each."""
    from pydantic import ValidationError

    try:
        return kind(**given)
    except ValidationError as error:
        for line in _complaints(error):
            say(f"reelq: {line}")
        raise typer.Exit(USAGE) from None
    except (tomllib.TOMLDecodeError, OSError, ValueError) as error:
        fail(f"cannot read the settings: {error}", USAGE)


def _complaints(error: "ValidationError") -> list[str]:
    """One line for each bad setting. The value is not shown: a database URL may hold a password."""
    lines = []
    for one in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in one["loc"])
        if one["type"] == "extra_forbidden":
            lines.append(f"{name} is not a setting")
        else:
            lines.append(f"setting {name} (REELQ_{name.upper()}) {_words(one['msg'])}")
    return lines


def _words(message: str) -> str:
    """What pydantic says of a value, as a person would: `must be a number`."""
    told = message.removeprefix("Value error, ").partition(", unable to ")[0]
    told = (
        _SHOULD.sub("must ", told)
        .replace("a valid integer", "a whole number")
        .replace("a valid boolean", "true or false")
    )
    return told.replace("must be a valid ", "must be a ", 1)
