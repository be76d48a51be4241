"""The operator's commands: gpus, drain, resume."""

from enum import StrEnum
from typing import Annotated

import typer

from app.cli.console import print_json, say
from app.cli.durations import seconds
from app.cli.gpu_table import show_gpus, show_preview
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session

GpuIds = Annotated[list[str], typer.Argument(metavar="GPU...", help="The GPUs' ids, as `reelq gpus` shows them.")]


class Mode(StrEnum):
    """What `--mode` takes."""

    FINISH = "finish"
    CHECKPOINT = "checkpoint"


class OnDeadline(StrEnum):
    """What `--on-deadline` takes."""

    CHECKPOINT = "checkpoint"
    KILL = "kill"


def gpus(url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show every GPU: its state, memory, load, worker and running jobs."""
    with session(url, api_key, as_json=as_json) as client:
        page = client.gpus()
        if as_json:
            print_json(page)
        elif page["data"]:
            show_gpus(page["data"])
        else:
            say("no GPU has registered; is a worker running?")


def drain(
    gpu_ids: GpuIds,
    reason: Annotated[
        str | None, typer.Option(help="Why, for whoever finds the GPU drained. A dry run needs none.")
    ] = None,
    mode: Annotated[
        Mode, typer.Option(help="What happens to running jobs; finish: they end first; checkpoint: they stop.")
    ] = Mode.FINISH,
    deadline: Annotated[
        float | None,
        typer.Option(parser=seconds, metavar="DURATION", help="How long finish may take, such as 90s, 5m, 2h or 1d."),
    ] = None,
    on_deadline: Annotated[
        OnDeadline, typer.Option(help="What then happens to jobs that still run; kill: their process is killed.")
    ] = OnDeadline.CHECKPOINT,
    resume_after: Annotated[
        float | None, typer.Option(parser=seconds, metavar="DURATION", help="When it takes jobs again by itself.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Give GPUs no new jobs and let them empty: all of them, or none where one is not known.

    A job that is stopped, or whose process is killed, goes back to the queue; that costs it no attempt. It goes on from
    its last checkpoint, on another GPU too, and a dry run says how many seconds of work would be lost. Draining again
    replaces all that was said before.
    """
    if reason is None and not dry_run:
        raise typer.BadParameter("say why, for whoever finds the GPU drained", param_hint="--reason")
    options = {
        "deadline_seconds": deadline,
        "on_deadline": on_deadline.value if deadline is not None else None,
        "resume_after_seconds": resume_after,
        "dry_run": dry_run or None,
    }
    with session(url, api_key, as_json=as_json) as client:
        why = "dry run" if reason is None else reason
        if len(gpu_ids) == 1:
            answer = client.drain(gpu_ids[0], why, mode.value, **options)
            found = [answer]
        else:
            answer = client.drain_many(gpu_ids, why, mode.value, **options)
            found = answer["data"]
        if as_json:
            print_json(answer)
        elif dry_run:
            show_preview(found)
        else:
            show_gpus(found)


def resume(gpu_ids: GpuIds, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Give drained GPUs jobs again: all of them, or none where one is not known."""
    with session(url, api_key, as_json=as_json) as client:
        answer = client.resume(gpu_ids[0]) if len(gpu_ids) == 1 else client.resume_many(gpu_ids)
        if as_json:
            print_json(answer)
        else:
            show_gpus([answer] if len(gpu_ids) == 1 else answer["data"])
