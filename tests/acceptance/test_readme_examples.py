"""The examples of the README, as they stand there, against a real front end; a stand-in ends the jobs at once."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.settings import FrontEndSettings
from scheduler.records import JobError, Result
from scheduler.service import Scheduler
from tests.support.fleet import MEASURED, RegisteredGpu, new_job, register_gpu
from tests.support.http import VIDEO, picture
from tests.support.service import free_port, wait_for

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
URL = "http://127.0.0.1:8000"
A_JOB = "job_01m7xv2p775skfzxpq2dn09spe"
FILES = {"video.mp4": VIDEO, "thumbnail.jpg": picture("JPEG"), "preview.webp": picture("WEBP")}


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks in a language below a heading, up to the next one."""
    (section,) = re.findall(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##)", README, re.MULTILINE | re.DOTALL)
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, f"no {language} below {heading!r}"
    return found


@dataclass
class Place:
    """A user's folder with some pictures, and a service."""

    folder: Path
    settings: FrontEndSettings
    scheduler: Scheduler
    gpu: RegisteredGpu

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def run(self, *command: str, **variables: str) -> str:
        """Run a command as the user would; returns what it prints."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REELQ_")}
        environment |= {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        environment |= {"REELQ_URL": self.url, "REELQ_DATA_DIR": str(self.settings.data_dir), **variables}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def finish_one(self) -> bool:
        """Give the next job a video; False where none waits."""
        lease = self.gpu.claim()
        if lease is None:
            return False
        keys = {name: f"jobs/{lease.job_id}/{lease.fence}/{name}" for name in FILES}
        for name, data in FILES.items():
            path = self.folder / f"{lease.job_id}-{name}"
            path.write_bytes(data)
            self.scheduler.blobs.put_file(keys[name], path)
            path.unlink()
        video, thumbnail, preview = keys.values()
        digest = hashlib.sha256(VIDEO).hexdigest()
        self.scheduler.leases.succeed(
            lease, Result(video, thumbnail, len(VIDEO), digest, 512, 512, 16, 16, 1.0, preview), MEASURED
        )
        return True

    def failed(self) -> str:
        """Return the id of a job that has failed, with its image."""
        new = new_job(not_before=time.time() + 3600)  # or the worker might be faster
        image = self.folder / "stored.png"
        image.write_bytes(picture())
        self.scheduler.blobs.put_file(new.image_key, image)
        job = self.scheduler.queue.submit(new).job
        self.scheduler.queue.refuse(job.id, JobError("pipeline_error", "it broke"))
        return job.id

    def succeeded(self) -> str:
        """Return the id of a job that has a video."""
        job = self.scheduler.queue.submit(new_job()).job
        wait_for(lambda: self.scheduler.queue.get(job.id).status.ended, "the job to end")
        return job.id


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "home"
    (folder / "photos").mkdir(parents=True)
    for name in ("photo.jpg", "pier.jpg", "photos/a.jpg", "photos/b.jpg"):
        (folder / name).write_bytes(picture("JPEG"))
    (folder / "bin").mkdir()
    program = folder / "bin" / "reelq"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m app.cli "$@"\n')
    program.chmod(0o700)
    settings = FrontEndSettings(
        data_dir=tmp_path / "data", port=free_port(), lease_seconds=600, min_free_disk_bytes=0, log_format="json"
    )
    with Scheduler.open(settings) as scheduler, (tmp_path / "log").open("wb") as log:
        place = Place(folder, settings, scheduler, register_gpu(scheduler))
        environment = os.environ | settings.environment() | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "app.cli", "serve"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        stopping = threading.Event()

        def work() -> None:
            while not stopping.is_set():
                if not place.finish_one():
                    stopping.wait(0.02)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            wait_for(lambda: "startup complete" in (tmp_path / "log").read_text(), "the front end to start")
            yield place
        finally:
            stopping.set()
            worker.join()
            process.kill()
            process.wait(10)


def test_from_the_command_line(place: Place) -> None:
    (block,) = blocks("From the command line", "sh")
    place.run("bash", "-ec", block.replace(A_JOB, place.failed()))
    assert (place.folder / "boat.mp4").read_bytes() == VIDEO
    assert sorted(path.name for path in (place.folder / "videos").iterdir()) == ["a.mp4", "b.mp4"]
    assert len(place.scheduler.queue.list_jobs(limit=100)) == 6, "four that were submitted, one that failed, its retry"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_over_http(place: Place) -> None:
    (block,) = blocks("Over HTTP", "sh")
    shown = place.run("bash", "-ec", block.replace(URL, place.url), ID=place.succeeded())
    assert "event: status" in shown
    assert (place.folder / "boat.mp4").read_bytes() == VIDEO


@pytest.mark.parametrize(("number", "files"), [(0, ["boat.mp4"]), (1, ["photo.jpg.mp4", "pier.jpg.mp4"])])
def test_from_python(place: Place, number: int, files: list[str]) -> None:
    block = blocks("From Python", "python")[number]
    place.run(sys.executable, "-c", block.replace(URL, place.url))
    assert [(place.folder / name).read_bytes() for name in files] == [VIDEO] * len(files)


def test_with_openais_client(place: Place) -> None:
    (block,) = blocks("With OpenAI's client", "python")
    place.run(sys.executable, "-W", "ignore", "-c", block.replace(URL, place.url))
    assert (place.folder / "boat.mp4").read_bytes() == VIDEO


def test_keys_and_tenants(place: Place) -> None:
    (block,) = blocks("Keys and tenants", "sh")
    shown = place.run("bash", "-ec", block)
    (secret, _) = re.findall(r"\brq_[\w-]{43}\b", shown)
    wait_for(lambda: '"tenant":"acme"' in _account(place, secret), "the service to notice the key")


def _account(place: Place, secret: str) -> str:
    return place.run("reelq", "account", "--json", REELQ_API_KEY=secret).replace(" ", "")
