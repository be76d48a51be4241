"""Real blob stores for tests: a folder, and an S3 service of our own (SeaweedFS)."""

import os
import secrets
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

_PORTS = ("master", "volume", "filer", "s3", "admin")
_START_SECONDS = 30


@dataclass(frozen=True)
class S3Server:
    """A running S3 service that accepts one access key."""

    endpoint: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead an S3 client here."""
        return {
            "AWS_ENDPOINT": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """Start SeaweedFS on free ports of the loopback; stop it and delete its data at the end."""
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    data = Path(tempfile.mkdtemp(prefix="reelq-s3-"))
    ports = _free_ports([f"{name}.{kind}" for name in _PORTS for kind in ("port", "port.grpc")])
    command = [
        str(Path(sysconfig.get_path("scripts")) / "weed"),
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{name}={port}" for name, port in ports.items()),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
    ]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    with (data / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        _wait_until_ready(process, endpoint, data / "log")
        yield S3Server(endpoint, access_key, secret_key)
    finally:
        process.kill()  # its orderly end takes seconds, and nothing of it is kept
        process.wait(timeout=30)
        shutil.rmtree(data)
        for port in ports.values():  # it leaves its Unix sockets behind
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 service for all tests of this process."""
    with running_s3() as server:
        yield server


@pytest.fixture(params=("local", "s3"))
def blob_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty blob store of each kind in turn, with the environment it needs."""
    if request.param == "local":
        return (tmp_path / "blobs").as_uri()
    server: S3Server = request.getfixturevalue("s3_server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://reelq-test/{secrets.token_hex(4)}"


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[[bytes], Path]:
    """Return a function that writes bytes to a new file."""

    def make(content: bytes) -> Path:
        path = tmp_path / secrets.token_hex(4)
        path.write_bytes(content)
        return path

    return make


def _free_ports(names: list[str]) -> dict[str, int]:
    with ExitStack() as stack:  # all open at once, so that no number comes twice
        sockets = {name: stack.enter_context(socket.socket()) for name in names}
        for each in sockets.values():
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in sockets.items()}


def _wait_until_ready(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(httpx.TransportError):
            httpx.get(endpoint, timeout=5)  # without a key it answers 403: that is all we ask
            return
        time.sleep(0.02)
    raise AssertionError(f"SeaweedFS did not start:\n{log.read_text()[-2000:]}")
