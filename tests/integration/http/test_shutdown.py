"""SIGTERM with streams and uploads open: what was acknowledged is there, and the end comes in time."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.settings import FrontEndSettings
from scheduler.service import Scheduler
from tests.support.fleet import register_gpu
from tests.support.http import picture
from tests.support.service import free_port, wait_for

GRACE_SECONDS = 2


@dataclass
class FrontEnd:
    """A `reelq serve` that takes one upload at a time, with a GPU registered that nobody works on."""

    process: subprocess.Popen[bytes]
    settings: FrontEndSettings
    temporary: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def submit(self) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/jobs", data={"prompt": "a fox"}, files={"image": ("a.png", picture())})

    def jobs(self) -> list[str]:
        with Scheduler.open(self.settings) as scheduler:
            return [job.id for job in scheduler.queue.list_jobs(limit=100)]

    def left(self) -> list[Path]:
        return list(self.temporary.rglob("*"))


@pytest.fixture
def front_end(tmp_path: Path, migrated: Path) -> Iterator[FrontEnd]:
    data_dir, temporary = tmp_path / "data", tmp_path / "temporary"
    data_dir.mkdir(mode=0o700)
    temporary.mkdir()
    shutil.copy(migrated, data_dir / "reelq.db")
    chosen = {"max_uploads": 1, "request_grace_seconds": GRACE_SECONDS, "lease_seconds": 600, "min_free_disk_bytes": 0}
    settings = FrontEndSettings(data_dir=data_dir, port=free_port(), **chosen)
    with Scheduler.open(settings) as scheduler:
        register_gpu(scheduler)
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve"],
        env=os.environ | settings.environment() | {"TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    front_end = FrontEnd(process, settings, temporary)
    try:
        wait_for(lambda: _answers(front_end), "the front end to answer")
        yield front_end
    finally:
        process.kill()
        process.wait(10)


def _answers(front_end: FrontEnd) -> bool:
    assert front_end.process.poll() is None
    try:
        return httpx.get(f"{front_end.url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


class Upload:
    """A submission that is sent in two halves."""

    def __init__(self, front_end: FrontEnd) -> None:
        request = httpx.Request("POST", front_end.url, data={"prompt": "slow"}, files={"image": ("a.png", picture())})
        body = request.read()
        kind = request.headers["content-type"]
        head = (
            f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._rest = body[len(body) // 2 :]
        self._socket = socket.create_connection(("127.0.0.1", front_end.settings.port), timeout=20)
        self._socket.sendall(head.encode() + body[: len(body) // 2])
        wait_for(lambda: front_end.submit().status_code == 503, "the upload to be under way")

    def finish(self) -> bytes:
        """Send the rest; returns what is answered."""
        self._socket.sendall(self._rest)
        return self.answer()

    def answer(self) -> bytes:
        """Return all that comes until the connection ends."""
        with self._socket as connection:
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)


def test_an_upload_that_is_under_way_is_finished_and_kept(front_end: FrontEnd) -> None:
    upload = Upload(front_end)
    front_end.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not _listens(front_end), "the front end to stop listening")
    answer = upload.finish()
    assert answer.startswith(b"HTTP/1.1 202"), answer[:200]
    assert front_end.process.wait(GRACE_SECONDS + 10) == 0
    (job_id,) = set(front_end.jobs())
    assert job_id.encode() in answer
    assert front_end.left() == []


def test_an_upload_that_never_ends_does_not_keep_it(front_end: FrontEnd) -> None:
    upload = Upload(front_end)
    front_end.process.send_signal(signal.SIGTERM)
    assert front_end.process.wait(GRACE_SECONDS + 10) == 0
    assert not upload.answer().startswith(b"HTTP/1.1 2")
    assert front_end.jobs() == []
    assert front_end.left() == []


def test_streams_end_as_streams_do(front_end: FrontEnd) -> None:
    job_id = front_end.submit().json()["id"]
    with httpx.stream("GET", f"{front_end.url}/v1/jobs/{job_id}/events", timeout=30) as stream:
        lines = stream.iter_lines()
        while "event: status" not in next(lines):
            pass
        front_end.process.send_signal(signal.SIGTERM)
        rest = list(lines)  # raises where the stream is cut and not ended
    assert rest[0].startswith("id: ")
    assert front_end.process.wait(10) == 0
    assert front_end.jobs() == [job_id]


def _listens(front_end: FrontEnd) -> bool:
    try:
        socket.create_connection(("127.0.0.1", front_end.settings.port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
