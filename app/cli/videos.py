"""The commands that make and fetch videos: submit, download."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import FAILED, fail, print_json, say
from app.cli.following import follow, interruptible
from app.cli.options import JobId, Priority, Settings, Window, whole_number
from app.cli.parameters import pairs, parse
from app.cli.session import DEFAULT_URL, ApiKey, AsJson, Url, session
from app.cli.tables import show_rows
from app.cli.times import ahead
from app.cli.wording import line, problem
from app.formats import duration, size

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
_URLS = ("https://", "http://", "data:")
_MOST_PARALLEL = 64


class File(StrEnum):
    """What `--file` takes."""

    VIDEO = "video"
    THUMBNAIL = "thumbnail"
    PREVIEW = "preview"


_SUFFIXES = {File.VIDEO: ".mp4", File.THUMBNAIL: ".jpg", File.PREVIEW: ".webp"}


def submit(
    image: Annotated[
        str,
        typer.Argument(metavar="IMAGE|DIR|URL", help="The image to start from, or a folder of images: a job for each."),
    ],
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What should happen in the video.", show_default=False)
    ] = None,
    prompt_option: Annotated[
        str | None,
        typer.Option("--prompt", help="The same; an image of a folder may have its own, in a .txt file beside it."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress, then download the video.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="Where the video goes, the job's id and .mp4 unless given; for a folder of images, a folder.",
            show_default=False,
        ),
    ] = None,
    settings: Settings = None,
    priority: Priority = None,
    model: Annotated[str | None, typer.Option(help="One of the models that workers serve.")] = None,
    preset: Annotated[str | None, typer.Option(help="One of the model's presets, such as fast.")] = None,
    not_before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Do not start before then: 2030-01-31T18:00:00Z, or +2h from now."),
    ] = None,
    window: Window = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Fail unless it has ended by then; a time as above.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="NUMBER", help="The same seed gives the same video."),
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Words of yours that stay with the job; repeatable.")
    ] = None,
    webhook_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Is told when the job has ended; an https URL.")
    ] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key never makes a second job.")] = None,
    batch: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Names the run over a folder: the same name never submits an image twice."),
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=_MOST_PARALLEL, help="How many images of a folder are sent at a time.")
    ] = 4,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Submit an image and a prompt, or a folder of images.

    Prints the job's id; with --wait, which -o implies, shows the progress and fetches the video. Of a folder every
    PNG, JPEG and WebP file is a job; a line for each tells what became of it, and --json prints one as JSON.
    """
    if prompt is not None and prompt_option is not None:
        raise typer.BadParameter("say the prompt once", param_hint="--prompt")
    words = prompt if prompt is not None else prompt_option
    given = {
        "priority": priority,
        "model": model,
        "preset": preset,
        "not_before": not_before and ahead(not_before, "--not-before"),
        "window": window,
        "deadline": deadline and ahead(deadline, "--deadline"),
        "seed": seed,
        "webhook_url": webhook_url,
    }
    params = {**parse(settings or ()), **{name: value for name, value in given.items() if value is not None}}
    if metadata:
        params["metadata"] = {**params.get("metadata", {}), **pairs(metadata)}
    wait = wait or output is not None
    if Path(image).is_dir():
        from app.cli import batches

        if idempotency_key is not None:
            raise typer.BadParameter("is for one image; a folder has --batch", param_hint="--idempotency-key")
        relative = {"--not-before": not_before, "--deadline": deadline}
        moving = {option: text for option, text in relative.items() if text is not None and text.startswith("+")}
        run = batches.plan(Path(image), words, batch, params, moving)
        run.submit(url, api_key, output=_folder(output) if wait else None, parallel=parallel, as_json=as_json)
        return
    if words is None:
        raise typer.BadParameter("say what should happen in the video", param_hint="PROMPT")
    if batch is not None:
        raise typer.BadParameter("is for a folder of images; one image has --idempotency-key", param_hint="--batch")
    source = image if image.lower().startswith(_URLS) else _readable(Path(image))
    if output is not None:
        _check_output(output)
    with session(url, api_key, as_json=as_json) as client:
        job = client.submit(source, words, idempotency_key=idempotency_key, **params)
        if wait:
            _finish(client, job["id"], output, as_json=as_json)
        elif as_json:
            print_json(job)
        else:
            typer.echo(job["id"])
            say(f"{line(job)}. Follow it: reelq status {job['id']} --watch")


def download(
    job_id: JobId,
    output: Output = None,
    file: Annotated[File, typer.Option("--file", help="Which of the job's files.")] = File.VIDEO,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Download a finished job's video, whole and checked against its SHA-256, or its thumbnail or preview."""
    if output is not None:
        _check_output(output)
    with session(url, api_key, as_json=as_json) as client:
        _save(client, job_id, output, file, as_json=as_json)


def _finish(client: "Client", job_id: str, output: Path | None, *, as_json: bool) -> None:
    job = follow(client, job_id)
    if job["status"] == "succeeded":
        with interruptible(job_id):
            _save(client, job_id, output, File.VIDEO, as_json=as_json)
        return
    if as_json:
        print_json(job)
    fail(f"{job_id} {job['status']}: {problem(job)}", FAILED)


def _save(client: "Client", job_id: str, output: Path | None, file: File, *, as_json: bool) -> None:
    name = f"{job_id}{_SUFFIXES[file]}"
    path = Path(name) if output is None else output
    path = path / name if path.is_dir() else path
    job = client.download(job_id, path, file.value)
    if as_json:
        print_json(job)
        return
    video: Any = job["video"] if file is File.VIDEO else None
    rows: dict[str, Any] = {"path": path}
    if video is not None:
        rows |= {
            "frames": f"{video['num_frames']} at {video['fps']} per second",
            "size": f"{job['params']['width']}x{job['params']['height']}, {size(video['bytes'])}",
            "duration": duration(video["duration_seconds"]),
            "sha256": video["sha256"],
        }
    show_rows(rows)


def _readable(path: Path) -> Path:
    if not path.is_file() or not os.access(path, os.R_OK):
        raise typer.BadParameter(f"there is no file {path} that can be read", param_hint="IMAGE")
    return path


def _check_output(path: Path) -> None:
    """Refuse before the work, not after it, a place that the video cannot be written to."""
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"cannot write into the folder {folder}", param_hint="--output")


def _folder(path: Path | None) -> Path:
    """Return the folder for videos, made if need be; the current one unless told."""
    folder = path or Path()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{folder} cannot be a folder of videos: {error}", param_hint="--output") from None
    _check_output(folder)
    return folder
