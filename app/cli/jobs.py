"""The commands about jobs that exist or might: status, jobs, cancel, estimate."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import FAILED, print_json, say
from app.cli.following import follow, interruptible
from app.cli.options import JobId, Settings
from app.cli.parameters import parse
from app.cli.session import DEFAULT_URL, AsJson, Url, session
from app.cli.tables import show_estimate, show_job, show_jobs
from app.cli.wording import ENDED

if TYPE_CHECKING:
    from app.client import Job


class Status(StrEnum):
    """What `--status` takes."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


def status(
    job_id: JobId,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show a job.

    With --watch, --json prints a line for each change, and the exit code is 1 unless the job succeeds.
    """
    with session(url, as_json=as_json) as client:
        if not watch:
            job = client.job(job_id)
        elif as_json:
            with interruptible(job_id):
                job = client.wait(job_id, on_change=print_json)
        else:
            job = follow(client, job_id)
        if as_json and not watch:
            print_json(job)
        elif not as_json:
            show_job(job)
        if watch and job["status"] != "succeeded":
            raise typer.Exit(FAILED)


def jobs(
    status: Annotated[Status | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many jobs.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with session(url, as_json=as_json) as client:
        page = client.jobs(status=status.value if status else None, limit=limit)
        if as_json:
            print_json(page)
        elif not page["data"]:
            say("no jobs")
        else:
            show_jobs(page["data"])
            if page["has_more"]:
                say("there are more; see --limit")


def cancel(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The jobs' ids.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Cancel jobs; a running one stops at its next step.

    --json prints one line for each job.
    """
    refused = False
    for job_id in job_ids:
        try:
            with session(url, as_json=as_json) as client:
                job = client.cancel(job_id)
                if as_json:
                    print_json(job)
                else:
                    typer.echo(f"{job['id']}  {_cancelled(job)}")
        except typer.Exit as end:  # the others are cancelled all the same
            if end.exit_code != FAILED:
                raise
            refused = True
    if refused:
        raise typer.Exit(FAILED)


def estimate(
    settings: Settings = None,
    model: Annotated[str | None, typer.Option(help="One of the models that workers serve.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show what a job with these parameters would need, and where it fits, without submitting it."""
    params = {**parse(settings or ()), **({"model": model} if model else {})}
    with session(url, as_json=as_json) as client:
        found = client.estimate(**params)
        if as_json:
            print_json(found)
        else:
            show_estimate(found)


def _cancelled(job: "Job") -> str:
    return job["status"] if job["status"] in ENDED else f"{job['status']}, stops at its next step"
