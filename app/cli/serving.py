"""`reelq up` and `reelq serve`: run the service in this process."""

import tomllib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import FAILED, USAGE, fail, say

if TYPE_CHECKING:
    from pydantic import ValidationError

    from app.settings import FrontEndSettings

Host = Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 unless set.", show_default=False)]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 8000 unless set.", show_default=False)]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder for the queue and the files; ~/.local/share/reelq unless set.", show_default=False),
]
Model = Annotated[
    str | None, typer.Option(metavar="tiny|DIR|HUB_ID", help="The model to serve; tiny makes noise, on any machine.")
]


class Device(StrEnum):
    """Where the model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def up(
    host: Host = None,
    port: Port = None,
    data: Data = None,
    model: Model = None,
    device: Annotated[Device | None, typer.Option(help="Where the model runs.")] = None,
) -> None:
    """Run the service with its workers on this machine, in the foreground.

    Every setting can also come from REELQ_<NAME> or from reelq.toml.
    """

    def start(settings: "FrontEndSettings") -> int:
        from app.up import up as run

        return run(settings, model=model, device=device.value if device else None)

    _run(start, host=host, port=port, data_dir=data)


def serve(host: Host = None, port: Port = None, data: Data = None) -> None:
    """Run the HTTP service alone; workers on other machines (reelq-worker) join through the database.

    Every setting can also come from REELQ_<NAME> or from reelq.toml.
    """

    def start(settings: "FrontEndSettings") -> int:
        from app.serve import bind, run

        run(settings, bind(settings.host, settings.port, trusted_network=settings.trusted_network))
        return 0

    _run(start, host=host, port=port, data_dir=data)


def _run(start: Callable[["FrontEndSettings"], int], **given: Any) -> None:
    from app.errors import CannotListen
    from scheduler import logs
    from scheduler.errors import SchedulerError

    settings = _settings({name: value for name, value in given.items() if value is not None})
    logs.configure(settings.log_format)
    try:
        code = start(settings)
    except (CannotListen, SchedulerError) as error:
        fail(str(error), FAILED)
    raise typer.Exit(code)


def _settings(given: dict[str, Any]) -> "FrontEndSettings":
    from pydantic import ValidationError

    from app.settings import FrontEndSettings

    try:
        return FrontEndSettings(**given)
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
            lines.append(f"setting {name} (REELQ_{name.upper()}): {one['msg']}")
    return lines
