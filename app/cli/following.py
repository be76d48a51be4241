"""Waiting for a job in front of a person, who may leave at any time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from app.cli.console import INTERRUPTED, say
from app.cli.progress import progress

if TYPE_CHECKING:
    from app.client import Client, Job


def follow(client: "Client", job_id: str) -> "Job":
    """Show the job's progress until it ends, and return it; Ctrl-C leaves the job alone and exits 130."""
    with interruptible(job_id), progress() as show:
        return client.wait(job_id, on_change=show)


@contextmanager
def interruptible(job_id: str) -> Iterator[None]:
    """Make Ctrl-C say how to go on with the job, and exit 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"{job_id} is left as it is. Follow it: reelq status {job_id} --watch. Stop it: reelq cancel {job_id}")
        raise typer.Exit(INTERRUPTED) from None
