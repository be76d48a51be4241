"""The commands that make and fetch videos: submit, download."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import FAILED, fail, print_json, say
from app.cli.durations import seconds
from app.cli.following import follow, interruptible
from app.cli.formats import duration, size
from app.cli.options import JobId, Settings
from app.cli.parameters import parse
from app.cli.session import DEFAULT_URL, AsJson, Url, session
from app.cli.tables import show_rows
from app.cli.wording import line, problem

if TYPE_CHECKING:
    from app.client import Client

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where the video goes; the job's id and .mp4 unless given.",
        show_default=False,
    ),
]


def start_time(text: str) -> str:
    """Return an earliest start as the server takes it: `+2h` counts from now, and a time is left as it is."""
    if not text.startswith("+"):
        return text
    try:
        return (datetime.now(UTC) + timedelta(seconds=seconds(text[1:]))).isoformat()
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too far ahead") from None


def submit(
    image: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, readable=True, metavar="IMAGE", help="The image to start from."),
    ],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What should happen in the video.")],
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress, then download the video.")] = False,
    output: Output = None,
    settings: Settings = None,
    priority: Annotated[float | None, typer.Option(help="Multiplies the job's weight in the queue.")] = None,
    model: Annotated[str | None, typer.Option(help="One of the models that workers serve.")] = None,
    not_before: Annotated[
        str | None,
        typer.Option(
            parser=start_time, metavar="TIME", help="Do not start before then: 2030-01-31T18:00:00Z, or +2h from now."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same video.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key never makes a second job.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Submit an image and a prompt.

    Prints the job's id; with --wait, which -o implies, shows the progress and fetches the video.
    """
    given = {"priority": priority, "not_before": not_before, "model": model, "seed": seed}
    params = {**parse(settings or ()), **{name: value for name, value in given.items() if value is not None}}
    if output is not None:
        _check_output(output)
    with session(url, as_json=as_json) as client:
        job = client.submit(image, prompt, idempotency_key=idempotency_key, **params)
        if wait or output is not None:
            _finish(client, job["id"], output, as_json=as_json)
        elif as_json:
            print_json(job)
        else:
            typer.echo(job["id"])
            say(f"{line(job)}. Follow it: reelq status {job['id']} --watch")


def download(job_id: JobId, output: Output = None, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Download a finished job's video, whole and checked against its SHA-256."""
    if output is not None:
        _check_output(output)
    with session(url, as_json=as_json) as client:
        _save(client, job_id, output, as_json=as_json)


def _finish(client: "Client", job_id: str, output: Path | None, *, as_json: bool) -> None:
    job = follow(client, job_id)
    if job["status"] == "succeeded":
        with interruptible(job_id):
            _save(client, job_id, output, as_json=as_json)
        return
    if as_json:
        print_json(job)
    fail(f"{job_id} {job['status']}: {problem(job)}", FAILED)


def _save(client: "Client", job_id: str, output: Path | None, *, as_json: bool) -> None:
    path = Path(f"{job_id}.mp4") if output is None else output
    path = path / f"{job_id}.mp4" if path.is_dir() else path
    job = client.download(job_id, path)
    if as_json:
        print_json(job)
        return
    video: Any = job["video"]
    show_rows(
        {
            "path": path,
            "frames": f"{video['num_frames']} at {video['fps']} per second",
            "size": f"{job['params']['width']}x{job['params']['height']}, {size(video['bytes'])}",
            "duration": duration(video["duration_seconds"]),
            "sha256": video["sha256"],
        }
    )


def _check_output(path: Path) -> None:
    """Refuse before the work, not after it, a place that the video cannot be written to."""
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"cannot write into the folder {folder}", param_hint="--output")
