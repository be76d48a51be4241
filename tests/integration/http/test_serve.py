"""The real server, in a process of its own."""

import asyncio
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.errors import CannotListen
from app.serve import bind
from app.settings import FrontEndSettings
from scheduler.service import Scheduler
from tests.support.fleet import new_job, register_gpu

EVERYWHERE = "0.0.0.0"  # noqa: S104  that it is refused is what is tested
SERVER = """
import resource
import sys
from pathlib import Path
from app.serve import bind, run
from app.settings import FrontEndSettings
from app.watch import Watch

changed = Watch.changed

async def told(self, version, seconds):
    print("waiting", flush=True)
    await changed(self, version, seconds)

Watch.changed = told
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most - 1, most))
settings = FrontEndSettings(data_dir=Path(sys.argv[1]), max_image_bytes=1000, min_free_disk_bytes=0)
sock = bind("127.0.0.1", 0)
print(sock.getsockname()[1], flush=True)
run(settings, sock, on_ready=lambda: print("ready", flush=True))
print("returned", flush=True)
"""


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    data_dir: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def end(self, number: int) -> str:
        """Send a signal, and return what the process still prints."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=20)
        return out


@pytest.fixture
def server(tmp_path: Path, migrated: Path) -> Iterator[Server]:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    shutil.copy(migrated, data_dir / "reelq.db")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    assert process.stdout.readline() == "ready\n"
    try:
        yield Server(process, port, data_dir)
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


async def test_sigterm_ends_it_promptly_with_long_polls_open(server: Server) -> None:
    with Scheduler.open(FrontEndSettings(data_dir=server.data_dir)) as scheduler:
        register_gpu(scheduler)
        job_id = scheduler.queue.submit(new_job()).job.id
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        tag = (await client.get(f"/v1/jobs/{job_id}")).headers["etag"]
        poll = asyncio.create_task(client.get(f"/v1/jobs/{job_id}?wait=60", headers={"If-None-Match": tag}))
        assert server.process.stdout is not None
        assert await asyncio.to_thread(server.process.stdout.readline) == "waiting\n"
        began = time.monotonic()
        out = await asyncio.to_thread(server.end, signal.SIGTERM)
        assert (await poll).status_code in (200, 304)
    assert time.monotonic() - began < 5
    assert (out, server.process.returncode) == ("returned\n", 0)


def test_sigint_ends_it_too(server: Server) -> None:
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    assert server.end(signal.SIGINT) == "returned\n"
    assert server.process.returncode == 0


def test_a_large_upload_is_answered_while_it_is_still_sent(server: Server) -> None:
    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(3000):
            yield b"x" * 10_000

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for length in ({}, {"Content-Length": "30000000"}):
        answer = httpx.post(f"{server.url}/v1/jobs", content=body(), headers=headers | length, timeout=20)
        assert (answer.status_code, answer.json()["code"]) == (413, "image_too_large")


def test_what_is_no_request_is_a_problem(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"nonsense\r\n\r\n")
        answer = b""
        while part := client.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"code": "malformed_request"' in answer


def test_it_opens_as_many_files_and_sockets_as_it_may(server: Server) -> None:
    now, most = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    assert now == most


def test_the_reaper_runs(server: Server) -> None:
    with Scheduler.open(FrontEndSettings(data_dir=server.data_dir, lease_seconds=1)) as scheduler:
        gpu = register_gpu(scheduler)
        job_id = scheduler.queue.submit(new_job()).job.id
        gpu.must_claim()
        deadline = time.monotonic() + 10
        with httpx.Client(base_url=server.url) as client:
            while client.get(f"/v1/jobs/{job_id}?wait=5").json()["status"] == "running":
                assert time.monotonic() < deadline
        assert scheduler.queue.get(job_id).attempts == 1


def test_a_taken_port_is_one_clear_line() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}: the port is in use"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("host", [EVERYWHERE, "::"])
def test_beyond_loopback_needs_leave(host: str) -> None:
    with pytest.raises(CannotListen, match="REELQ_TRUSTED_NETWORK"):
        bind(host, 0)


def test_with_leave_it_listens_everywhere() -> None:
    with bind(EVERYWHERE, 0, guarded=True) as sock:
        assert sock.getsockname()[0] == EVERYWHERE


def test_localhost_is_loopback() -> None:
    with bind("localhost", 0) as sock:
        assert sock.family == socket.AF_INET


def test_unknown_hosts_are_one_clear_line() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on 'no\.such\.host\.invalid'"):
        bind("no.such.host.invalid", 0)
    with pytest.raises(CannotListen, match=r"cannot listen on 'a\.\.b'"):
        bind("a..b", 0)


def test_an_address_of_another_machine_is_one_clear_line() -> None:
    with pytest.raises(CannotListen, match="no such address"):
        bind("192.0.2.1", 0, guarded=True)
