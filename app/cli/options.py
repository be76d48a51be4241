"""Arguments and options that several commands about jobs take."""

import math
from typing import Annotated

import typer


def number(text: str) -> float:
    """Return a finite number; raises typer.BadParameter."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"must be a number, not {text!r}")
    return value


def whole_number(text: str) -> int:
    """Return a whole number; raises typer.BadParameter."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"must be a whole number, not {text!r}") from None


Priority = Annotated[
    float | None,
    typer.Option(parser=number, metavar="NUMBER", help="Multiplies the job's weight in the queue.", show_default=False),
]
Window = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Start only in this window: off_peak, where the server has one."),
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any parameter of a job, such as num_frames=16; repeatable."),
]
