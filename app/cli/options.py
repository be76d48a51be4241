"""Arguments and options that several commands about jobs take."""

from typing import Annotated

import typer

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any parameter of a job, such as num_frames=16; repeatable."),
]
