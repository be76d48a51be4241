"""`reelq submit DIR`: every image of a folder as a job.

A batch has a name, and each image an idempotency key made from it: who repeats the command after a crash submits what
is missing and finds the rest as it was.
"""

import asyncio
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from app.cli.console import FAILED, INTERRUPTED, USAGE, clean, fail, print_json, say
from app.cli.progress import ShowBatch, batch_progress
from app.cli.session import errors_end
from app.cli.wording import fraction, problem

if TYPE_CHECKING:
    from app.client import ApiError, AsyncClient, Job

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_WATCHED = 32  # jobs that are followed at a time; those before them in the queue end first
_PAUSE_SECONDS = 5.0  # where a full queue does not say how long


@dataclass(frozen=True, slots=True)
class Item:
    """An image of the batch; `video` is the name of its video's file."""

    file: Path
    prompt: str
    key: str
    video: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be submitted; `again` is what to say to go on after an interruption."""

    name: str
    items: Sequence[Item]
    params: Mapping[str, Any]
    again: str

    def submit(self, url: str, api_key: str | None, *, output: Path | None, parallel: int, as_json: bool) -> None:
        """Submit all; with `output`, wait for the videos and write them there. Exits 1 if anything failed."""
        from app.client import AsyncClient

        say(f"batch {self.name}: {len(self.items)} images")
        with errors_end(as_json=as_json), batch_progress(len(self.items)) as show:
            try:
                client = AsyncClient(url, api_key=api_key)
            except ValueError as error:
                fail(f"--url: {error}", USAGE)
            run = _Run(self, client, output, parallel, show, as_json=as_json)
            try:
                asyncio.run(run.all())
            except KeyboardInterrupt:
                left = f"{run.submitted} of {len(self.items)} are submitted and left as they are"
                say(f"{left}. Go on: the same command with {self.again}")
                raise typer.Exit(INTERRUPTED) from None
            except BaseException:
                say(f"go on with the same command and {self.again}")
                raise
        say(
            f"{run.submitted} submitted, {run.failed} failed"
            if output is None
            else f"{run.saved} saved, {run.failed} failed"
        )
        if run.failed:
            raise typer.Exit(FAILED)


def plan(
    folder: Path, prompt: str | None, name: str | None, params: Mapping[str, Any], moving: Mapping[str, str]
) -> Batch:
    """Return the batch of a folder; `moving` are the options that say another time at each call.

    Raises typer.BadParameter if the folder has no images, or some have no prompt.
    """
    files = sorted(path for path in folder.iterdir() if _is_image(path))
    if not files:
        raise typer.BadParameter(f"{folder} has no PNG, JPEG or WebP files", param_hint="DIR")
    if name is not None and moving:
        raise typer.BadParameter(
            "say the time in full: a batch is the same at each call", param_hint=next(iter(moving))
        )
    name = name or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    stems = Counter(file.stem for file in files)
    items = [
        Item(
            file,
            _prompt(file, prompt),
            f"batch-{hashlib.sha256(json.dumps([name, file.name]).encode()).hexdigest()[:40]}",
            f"{file.stem if stems[file.stem] == 1 else file.name}.mp4",
        )
        for file in files
    ]
    times = [f"{option} {params[option.removeprefix('--').replace('-', '_')]}" for option in moving]
    return Batch(name, items, params, " ".join([f"--batch {name}", *times]))


class _Run:
    """The batch under way."""

    def __init__(
        self,
        batch: Batch,
        client: "AsyncClient",
        output: Path | None,
        parallel: int,
        show: ShowBatch,
        *,
        as_json: bool,
    ) -> None:
        self.submitted = self.saved = self.failed = 0
        self._batch = batch
        self._client = client
        self._output = output
        self._show = show
        self._as_json = as_json
        self._fractions: dict[str, float] = {}
        self._uploads, self._downloads = asyncio.Semaphore(parallel), asyncio.Semaphore(parallel)
        self._watched = asyncio.Semaphore(_WATCHED)

    async def all(self) -> None:
        """Submit, follow and fetch all; raises what stops the whole."""
        async with self._client:
            tasks = [asyncio.create_task(self._one(item)) for item in self._batch.items]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, item: Item) -> None:
        from app.client import AccessDenied, ApiError, DownloadCorrupt

        job: Job | None = None
        try:
            async with self._uploads:
                job = await self._submit(item)
            self.submitted += 1
            self._moved(item, 1.0 if self._output is None else 0.0)
            if self._output is None:
                self._tell(item, job)
                return
            async with self._watched:
                job = await self._client.wait(job["id"], lambda state: self._moved(item, fraction(state)))
            if job["status"] != "succeeded":
                self._fail(item, f"{job['id']} {job['status']}: {problem(job)}", job=job)
                return
            async with self._downloads:
                await self._client.download(job["id"], self._output / item.video)
            self.saved += 1
            self._tell(item, job, self._output / item.video)
        except AccessDenied:
            raise
        except ApiError as error:
            self._fail(item, self._refusal(error), job=job, error=error.problem)
        except (DownloadCorrupt, OSError) as error:
            self._fail(item, str(error), job=job)

    async def _submit(self, item: Item) -> "Job":
        from app.client import ApiError

        own = {"batch": self._batch.name, "file": item.file.name}
        params = {**self._batch.params, "metadata": {**own, **self._batch.params.get("metadata", {})}}
        while True:
            try:
                return await self._client.submit(item.file, item.prompt, idempotency_key=item.key, **params)
            except ApiError as error:
                if error.status != 429:
                    raise
                asked = error.retry_after_seconds
                pause = _PAUSE_SECONDS if asked is None else asked
                self._show(self._done(), f"{self._counts()}; the server asks to wait {pause:.0f} s: {error.detail}")
                await asyncio.sleep(pause)

    def _refusal(self, error: "ApiError") -> str:
        if error.code != "idempotency_key_reused":
            return str(error)
        return (
            f"batch {self._batch.name} has this file already, with another prompt, image or settings; "
            "to make both videos, use another --batch"
        )

    def _moved(self, item: Item, done: float) -> None:
        self._fractions[item.key] = done
        self._show(self._done(), self._counts())

    def _done(self) -> float:
        return sum(self._fractions.values())

    def _counts(self) -> str:
        counts = f"{self.submitted} of {len(self._batch.items)} submitted"
        saved = "" if self._output is None else f", {self.saved} saved"
        return f"{counts}{saved}{f', {self.failed} failed' if self.failed else ''}"

    def _tell(self, item: Item, job: "Job", path: Path | None = None) -> None:
        if self._as_json:
            print_json({"file": str(item.file), "job": job, "path": path and str(path), "error": None})
        else:
            typer.echo(clean("  ".join([item.file.name, job["id"], *([str(path)] if path else [])])))
        self._show(self._done(), self._counts())

    def _fail(self, item: Item, message: str, *, job: "Job | None", error: Mapping[str, Any] | None = None) -> None:
        self.failed += 1
        if self._as_json:
            print_json({"file": str(item.file), "job": job, "path": None, "error": error or {"detail": message}})
        say(f"reelq: {item.file.name}: {message}")
        self._moved(item, 1.0)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()


def _prompt(file: Path, prompt: str | None) -> str:
    """Return what the .txt beside an image says, else what was said for all."""
    beside = file.with_suffix(".txt")
    try:
        own = beside.read_text(encoding="utf-8").strip() if beside.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{beside} cannot be read: {error}", param_hint="DIR") from None
    if not own and prompt is None:
        raise typer.BadParameter(
            f"{file.name} has no {beside.name} beside it, so --prompt is needed", param_hint="--prompt"
        )
    return own or str(prompt)
