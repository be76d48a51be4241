"""The commands about jobs that exist or might: status, jobs, cancel, retry, delete, estimate."""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import FAILED, print_json, say
from app.cli.following import follow, interruptible
from app.cli.options import JobId, Priority, Settings, Window
from app.cli.parameters import parse
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session
from app.cli.tables import show_estimate, show_job, show_jobs
from app.cli.times import ago
from app.cli.wording import ENDED, line

if TYPE_CHECKING:
    from app.client import Client, Job, Page
    from app.client.types import Filters

JobIds = Annotated[list[str], typer.Argument(metavar="ID...", help="The jobs' ids.")]
_PAGE = 100  # the server's largest
_SHOWN = 20  # jobs of a search, unless told otherwise


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
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show a job.

    With --watch, --json prints a line for each change, and the exit code is 1 unless the job succeeds.
    """
    with session(url, api_key, as_json=as_json) as client:
        if not watch:
            job = client.get(job_id)
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
    status: Annotated[list[Status] | None, typer.Option(help="Only jobs in this state; repeatable.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    search: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only jobs whose id begins so, or with these words in the prompt."),
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="Only jobs that have been on this GPU.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=ago, metavar="TIME", help="Only jobs made since then: 2h for two hours ago, or a time."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's jobs, for who may see them all.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many jobs.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every job, however many there are.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    if everything and limit is not None:
        raise typer.BadParameter("--all and --limit exclude each other", param_hint="--all")
    filters: Filters = {
        "status": [one.value for one in status or ()],
        "model": model,
        "q": search,
        "gpu": gpu,
        "created_after": since,
        "tenant": tenant,
    }
    with session(url, api_key, as_json=as_json) as client:
        if search is not None and not everything:
            limit = limit or _SHOWN  # a page of a search may be short, and yet have a next one
        several = everything or search is not None or (limit or 0) > _PAGE
        page = _all(client, filters, limit) if several else client.list(limit=limit, **filters)
        if as_json:
            print_json(page)
        elif not page["data"]:
            say("no jobs")
        else:
            show_jobs(page["data"])
            if page["has_more"]:
                say("there are more; see --limit and --all")


def cancel(job_ids: JobIds, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Cancel jobs; a running one stops at its next step.

    --json prints one line for each job.
    """

    def one(client: "Client", job_id: str) -> None:
        job = client.cancel(job_id)
        print_json(job) if as_json else typer.echo(f"{job['id']}  {_cancelled(job)}")

    _each(job_ids, url, api_key, one, as_json=as_json)


def retry(job_ids: JobIds, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Submit failed or cancelled jobs again, as new jobs with the same image and parameters.

    Prints the new jobs' ids; --json prints one line for each.
    """

    def one(client: "Client", job_id: str) -> None:
        job = client.retry(job_id)
        if as_json:
            print_json(job)
        else:
            typer.echo(job["id"])
            say(f"{job['id']} repeats {job_id}: {line(job)}")

    _each(job_ids, url, api_key, one, as_json=as_json)


def delete(job_ids: JobIds, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Delete ended jobs, with their images and videos, for good.

    --json prints one line for each job.
    """

    def one(client: "Client", job_id: str) -> None:
        client.delete(job_id)
        print_json({"id": job_id, "deleted": True}) if as_json else typer.echo(f"{job_id}  deleted")

    _each(job_ids, url, api_key, one, as_json=as_json)


def estimate(
    settings: Settings = None,
    model: Annotated[str | None, typer.Option(help="One of the models that workers serve.")] = None,
    preset: Annotated[str | None, typer.Option(help="One of the model's presets, such as fast.")] = None,
    priority: Priority = None,
    window: Window = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show what a job with these parameters would need, where it fits and when, without submitting it."""
    given = {"model": model, "preset": preset, "priority": priority, "window": window}
    params = {**parse(settings or ()), **{name: value for name, value in given.items() if value is not None}}
    with session(url, api_key, as_json=as_json) as client:
        found = client.estimate(**params)
        if as_json:
            print_json(found)
        else:
            show_estimate(found)


def _all(client: "Client", filters: "Filters", limit: int | None) -> "Page[Job]":
    found = list(islice(client.iterate(**filters), None if limit is None else limit + 1))
    return {"object": "list", "data": found[:limit], "has_more": len(found) > len(found[:limit]), "next_cursor": None}


def _each(
    job_ids: Sequence[str], url: str, api_key: str | None, one: "Callable[[Client, str], None]", *, as_json: bool
) -> None:
    """Do `one` for each job; what the server refuses for one does not keep the others, and exits 1 at the end."""
    refused = False
    for job_id in job_ids:
        try:
            with session(url, api_key, as_json=as_json) as client:
                one(client, job_id)
        except typer.Exit as end:
            if end.exit_code != FAILED:
                raise
            refused = True
    if refused:
        raise typer.Exit(FAILED)


def _cancelled(job: "Job") -> str:
    return job["status"] if job["status"] in ENDED else f"{job['status']}, stops at its next step"
