"""`reelq up` and `reelq serve`: run the service in this process."""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import FAILED, fail
from app.cli.store import Data, read_settings

if TYPE_CHECKING:
    from app.settings import FrontEndSettings

Host = Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 unless set.", show_default=False)]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 8000 unless set.", show_default=False)]
Processes = Annotated[
    int | None, typer.Option(help="Processes that serve on the port; 1 unless set.", show_default=False)
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
    processes: Processes = None,
    model: Model = None,
    device: Annotated[Device | None, typer.Option(help="Where the model runs.")] = None,
) -> None:
    """Run the service with its workers on this machine, in the foreground.

    Every setting can also come from REELQ_<NAME> or from reelq.toml.
    """

    def start(settings: "FrontEndSettings") -> int:
        from app.up import up as run

        return run(settings, model=model, device=device.value if device else None)

    _run(start, host=host, port=port, data_dir=data, processes=processes)


def serve(host: Host = None, port: Port = None, data: Data = None, processes: Processes = None) -> None:
    """Run the HTTP service alone; workers on other machines (reelq-worker) join through the database.

    Every setting can also come from REELQ_<NAME> or from reelq.toml.
    """

    def start(settings: "FrontEndSettings") -> int:
        from app.replicas import run
        from app.serve import listen

        run(settings, listen(settings))
        return 0

    _run(start, host=host, port=port, data_dir=data, processes=processes)


def _run(start: Callable[["FrontEndSettings"], int], **given: Any) -> None:
    from app.errors import CannotListen
    from app.settings import FrontEndSettings
    from scheduler import logs
    from scheduler.errors import SchedulerError

    settings = read_settings(FrontEndSettings, **{name: value for name, value in given.items() if value is not None})
    logs.configure(settings.log_format)
    try:
        code = start(settings)
    except (CannotListen, SchedulerError) as error:
        fail(str(error), FAILED)
    raise typer.Exit(code)
