"""The real application, served on loopback by this process, on a queue that has a job in each state."""

import itertools
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from app import lookups
from app.main import create_app
from app.routes import videos
from app.serve import bind
from app.settings import FrontEndSettings
from scheduler.keys import Scope
from scheduler.records import Result
from scheduler.service import Scheduler
from scheduler.states import JobStatus
from tests.support.fleet import ERROR, RegisteredGpu, register_gpu
from tests.support.http import MEASURED, SHA256, VIDEO, picture

_LONGEST_WAIT_SECONDS = 0.05  # of a poll: what waits would take all the time there is
_STOP_SECONDS = 30
_FEW = 12
_EACH = 4


@dataclass
class World:
    """A running service, the secret of a key with all scopes, and a GPU whose worker is moved by hand."""

    url: str
    secret: str
    scheduler: Scheduler
    gpu: RegisteredGpu

    def __post_init__(self) -> None:
        self._turns = itertools.cycle((self.succeed, self.fail, self.succeed, self.leave_running))
        self._drawn = itertools.count()

    def turn(self) -> None:
        """Undo what may have stopped the worker, and let it end a job well, end one badly, or begin one."""
        self.scheduler.fleet.resume_all([self.gpu.info.id], "test")
        self.scheduler.control.resume("test")
        self.scheduler.control.release_model(self.gpu.info.model, "test")
        if len(self.scheduler.queue.list_jobs(statuses=(JobStatus.QUEUED,), limit=_EACH + 1)) > _EACH:  # some must wait
            next(self._turns)()

    def populate(self) -> None:
        """Have jobs in each state, and webhooks that something is told to."""
        for ends in ([self.succeed] * _EACH, [self.fail] * _EACH, [self.leave_running] * _EACH, [_stay] * _EACH):
            for end in ends:
                form = {"prompt": "a red fox", "webhook_url": "https://hooks.invalid/videos"}
                headers = {"Authorization": f"Bearer {self.secret}"}
                files = {"image": ("in.png", picture())}
                httpx.post(f"{self.url}/v1/jobs", data=form, files=files, headers=headers).raise_for_status()
                end()

    def some_job(self, statuses: Collection[JobStatus] = ()) -> str | None:
        """Return the id of one of the newest jobs in such a state, each time another one's."""
        return self._one([job.id for job in self.scheduler.queue.list_jobs(statuses=statuses, limit=_FEW)])

    def some_endpoint(self) -> str | None:
        """Return the id of a webhook endpoint."""
        return self._one([one.id for one in self.scheduler.webhooks.endpoints(None, None, _FEW)])

    def some_delivery(self) -> str | None:
        """Return the id of a delivery."""
        return self._one([one.id for one in self.scheduler.webhooks.deliveries(None, limit=_FEW)])

    def _one(self, ids: Sequence[str]) -> str | None:
        return ids[next(self._drawn) % len(ids)] if ids else None

    def succeed(self) -> None:
        """Claim a job, if one waits, and publish its files."""
        lease = self.gpu.claim()
        if lease is None:
            return
        keys = {}
        for name, data in (("video.mp4", VIDEO), ("thumbnail.jpg", picture("JPEG")), ("preview.webp", picture("WEBP"))):
            keys[name] = f"jobs/{lease.job_id}/{lease.fence}/{name}"
            with tempfile.NamedTemporaryFile() as file:
                Path(file.name).write_bytes(data)
                self.scheduler.blobs.put_file(keys[name], Path(file.name))
        result = Result(
            keys["video.mp4"], keys["thumbnail.jpg"], len(VIDEO), SHA256, 512, 512, 16, 8, 2.0, keys["preview.webp"]
        )
        self.scheduler.leases.succeed(lease, result, MEASURED)

    def fail(self) -> None:
        """Claim a job, if one waits, and end it with an error."""
        lease = self.gpu.claim()
        if lease is not None:
            self.scheduler.leases.fail(lease, ERROR)

    def leave_running(self) -> None:
        """Claim a job, if one waits."""
        self.gpu.claim()


def _stay() -> None:
    """Leave a job in the queue."""


def _nowhere(_host: str) -> list[str]:
    """Find no address: the hosts of made-up URLs may well be somebody's."""
    raise OSError("no such host")


@contextmanager
def serving(folder: Path) -> Iterator[World]:
    """Serve on an empty folder while the block runs."""
    settings = FrontEndSettings(
        data_dir=folder, min_free_disk_bytes=0, max_wait_seconds=_LONGEST_WAIT_SECONDS, lease_seconds=3600
    )
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        Scheduler.open(settings) as scheduler,
        bind("127.0.0.1", 0) as sock,
    ):
        gpu = register_gpu(scheduler, total_bytes=10**13)
        _, secret = scheduler.keys.create("fuzzer", scopes=frozenset(Scope), actor="test")
        monkeypatch.setattr(lookups, "_resolved", _nowhere)
        monkeypatch.setattr(videos, "_DELETE_SECONDS", _LONGEST_WAIT_SECONDS)
        app = create_app(scheduler, settings)
        config = uvicorn.Config(app, lifespan="on", ws="none", log_config=None, access_log=False, server_header=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="server")
        thread.start()
        try:
            app.state.context.hub.release()  # as at shutdown: streams end after their first event
            world = World(f"http://127.0.0.1:{sock.getsockname()[1]}", secret, scheduler, gpu)
            world.populate()
            yield world
        finally:
            server.should_exit = True
            thread.join(_STOP_SECONDS)
