"""`reelq serve --processes 2`: one port, two processes, and nobody who calls can tell."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from app.settings import FrontEndSettings
from scheduler.service import Scheduler
from tests.support.fleet import register_gpu
from tests.support.http import picture
from tests.support.service import free_port, wait_for

PROCESSES = 2


@dataclass
class Service:
    """The command, with a GPU registered that nobody works on."""

    command: subprocess.Popen[bytes]
    settings: FrontEndSettings

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def serving(self) -> list[psutil.Process]:
        return psutil.Process(self.command.pid).children()

    def answers(self) -> bool:
        assert self.command.poll() is None
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def submit(self) -> str:
        form, file = {"prompt": "a fox"}, {"image": ("a.png", picture())}
        answer = httpx.post(f"{self.url}/v1/jobs", data=form, files=file, timeout=30)
        return str(answer.raise_for_status().json()["id"])


@pytest.fixture
def service(tmp_path: Path, migrated: Path) -> Iterator[Service]:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    shutil.copy(migrated, data_dir / "reelq.db")
    settings = FrontEndSettings(data_dir=data_dir, port=free_port(), lease_seconds=600, min_free_disk_bytes=0)
    with Scheduler.open(settings) as scheduler:
        register_gpu(scheduler)
    command = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--processes", str(PROCESSES)],
        env=os.environ | settings.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    service = Service(command, settings)
    processes: list[psutil.Process] = []
    try:
        wait_for(service.answers, "the service to answer")
        wait_for(lambda: len(service.serving()) == PROCESSES, "all processes")
        processes = service.serving()
        yield service
    finally:
        command.kill()
        command.wait(10)
        psutil.wait_procs(processes, 10)


def test_every_connection_finds_the_same_service(service: Service) -> None:
    jobs = {service.submit() for _ in range(8)}
    for _ in range(8):  # each on a connection of its own
        listed = httpx.get(f"{service.url}/v1/jobs").json()["data"]
        assert {job["id"] for job in listed} == jobs


def test_one_that_dies_is_replaced_and_the_others_serve_on(service: Service) -> None:
    first, second = service.serving()
    job_id = service.submit()
    first.kill()
    wait_for(lambda: len({each.pid for each in service.serving()} - {first.pid}) == PROCESSES, "another one")
    assert second.is_running()
    wait_for(service.answers, "the service to answer")
    assert httpx.get(f"{service.url}/v1/jobs/{job_id}").json()["status"] == "queued"


def test_sigterm_ends_streams_and_leaves_nothing(service: Service) -> None:
    job_id = service.submit()
    processes = service.serving()
    with httpx.stream("GET", f"{service.url}/v1/jobs/{job_id}/events", timeout=30) as stream:
        lines = stream.iter_lines()
        assert any(line == "event: status" for line in lines)
        service.command.send_signal(signal.SIGTERM)
        assert not any(line == "event: status" for line in lines)  # it ends
    assert service.command.wait(30) == 0
    assert not any(each.is_running() for each in processes)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/healthz")


def test_they_end_with_the_command_however_that_ends(service: Service) -> None:
    processes = service.serving()
    service.command.kill()
    _, alive = psutil.wait_procs(processes, 30)
    assert alive == []
