"""The front end in this process: the real application on a real SQLite queue, with a GPU that no process owns."""

import asyncio
import io
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import func, select

from app.main import create_app
from app.settings import FrontEndSettings
from app.watch import ChangeHub
from scheduler.records import Job, Lease, Measured, Result
from scheduler.service import Scheduler
from scheduler.store import schema as s
from tests.support.fleet import RegisteredGpu, register_gpu

URL = "http://127.0.0.1:8000"
VIDEO = bytes(range(256)) * 40
SHA256 = "5" * 64
MEASURED = Measured(
    vram_peak_bytes=7 * 2**30,
    run_seconds=12.5,
    working_peak_bytes=2**30,
    steps=50,
    step_seconds=0.2,
    fixed_seconds=2.5,
    sharing=2,
    energy_joules=3000.0,
    stage_seconds={"denoising": 10.0, "decoding": 2.5},
)


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: Any) -> bytes:
    """Return a small image file with a gradient, so that it is neither empty nor all alike."""
    image = Image.linear_gradient("L").resize(size).convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


_JPEG_SEGMENTS = {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}  # JFIF's head, tables, frame, codes, and the pixels


def has_only_pixels(stored: bytes) -> bool:
    """Whether a stored image is nothing but pixels and what it takes to read them."""
    image = Image.open(io.BytesIO(stored))
    if image.format == "PPM":
        return len(stored) == len(f"P6\n{image.width} {image.height}\n255\n") + image.width * image.height * 3
    at, kinds = 2, set()
    while 0xDA not in kinds:
        kinds.add(stored[at + 1])
        at += 2 + int.from_bytes(stored[at + 2 : at + 4], "big")
    return image.format == "JPEG" and kinds <= _JPEG_SEGMENTS and stored.find(b"\xff\xd9", at) == len(stored) - 2


@dataclass
class Site:
    """A running application and its client."""

    app: FastAPI
    client: httpx.AsyncClient
    scheduler: Scheduler
    gpu: RegisteredGpu
    temporary: Path

    @property
    def settings(self) -> FrontEndSettings:
        """The application's settings."""
        settings: FrontEndSettings = self.app.state.context.settings
        return settings

    @property
    def hub(self) -> ChangeHub:
        """The application's change hub."""
        hub: ChangeHub = self.app.state.context.hub
        return hub

    async def post(
        self,
        image: bytes | None = None,
        headers: Any = None,
        files: Any = None,
        **fields: str | list[str],
    ) -> httpx.Response:
        """POST a form to /v1/jobs: by default a good image and a prompt."""
        form = {"prompt": "a red fox"} | fields
        files = files or {"image": ("in.png", picture() if image is None else image)}
        return await self.client.post("/v1/jobs", data=form, files=files, headers=headers)

    async def submit(self, **fields: str | list[str]) -> dict[str, Any]:
        """Submit a job that must be taken, and return it."""
        answer = await self.post(**fields)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def stored(self, job_id: str) -> Job:
        """Return the job as the scheduler has it."""
        return self.scheduler.queue.get(job_id)

    def finish(self, lease: Lease, *, with_preview: bool = True) -> None:
        """Publish a small video, thumbnail and preview for a claimed job, as a worker would."""
        keys = {}
        files = {"video.mp4": VIDEO, "thumbnail.jpg": picture("JPEG"), "preview.webp": picture("WEBP")}
        for name, data in files.items():
            keys[name] = f"jobs/{lease.job_id}/{lease.fence}/{name}"
            path = self.temporary / name
            path.write_bytes(data)
            self.scheduler.blobs.put_file(keys[name], path)
            path.unlink()
        video, thumbnail, preview = keys.values()
        preview_key = preview if with_preview else None
        result = Result(video, thumbnail, len(VIDEO), SHA256, 512, 512, 16, 8, 2.0, preview_key)
        self.scheduler.leases.succeed(lease, result, MEASURED)

    async def succeeded(self) -> str:
        """Return the id of a job that has succeeded."""
        job = await self.submit()
        self.finish(self.gpu.must_claim())
        return str(job["id"])

    def leftovers(self) -> list[str]:
        """Name everything that a refused request should not have left: rows, blobs, temporary files."""
        with self.scheduler.database.read() as conn:
            rows = conn.execute(select(func.count()).select_from(s.jobs)).scalar_one()
        blobs = self.settings.data_dir / "blobs" / "jobs"
        files = [path for folder in (blobs, self.temporary) for path in folder.rglob("*") if path.is_file()]
        folders = list(self.temporary.iterdir())
        return [f"{rows} jobs"] * bool(rows) + [str(path) for path in (*files, *folders)]


def http_scope(method: str, path: str, query: bytes = b"", **headers: str) -> dict[str, Any]:
    """Return the ASGI scope of a request, for what httpx cannot do: leaving in the middle."""
    sent = {"host": "127.0.0.1"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }


async def until(condition: Callable[[], object]) -> None:
    """Give way to other tasks until `condition` holds; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  what it waits for is in another thread, or has no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def open_site(
    folder: Path, template: Path, monkeypatch: pytest.MonkeyPatch, *, with_gpu: bool = True, **settings: Any
) -> AsyncIterator[Site]:
    """Run the application in `folder`, with a copy of the `template` database."""
    data_dir, temporary = folder / "data", folder / "temporary"
    data_dir.mkdir(mode=0o700)
    temporary.mkdir()
    shutil.copy(template, data_dir / "reelq.db")
    chosen = FrontEndSettings(data_dir=data_dir, **({"min_free_disk_bytes": 0, "place_seconds": 0} | settings))
    with Scheduler.open(chosen) as scheduler:
        gpu = register_gpu(scheduler) if with_gpu else RegisteredGpu(scheduler, None)  # type: ignore[arg-type]  # none
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        app = create_app(scheduler, chosen)
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=URL) as client:
            yield Site(app, client, scheduler, gpu, temporary)


def check_problem(answer: httpx.Response, status: int, code: str, *words: str) -> dict[str, Any]:
    """Check that `answer` is a whole problem document whose detail has each of `words`; returns it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert {"type", "title", "status", "detail", "instance", "code"} <= body.keys()
    assert body["type"].endswith(code)
    assert body["request_id"] == answer.headers["x-request-id"]
    for word in words:
        assert word in body["detail"], body["detail"]
    return body
