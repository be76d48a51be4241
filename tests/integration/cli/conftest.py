"""The real command line, against a small HTTP server that speaks the contract from a script."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.cli.root import build
from tests.support.api_objects import make_job
from tests.support.scripted_api import VIDEO, Api

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    yield server
    server.close()


@pytest.fixture
def settings(tmp_path: Path, api: Api) -> dict[str, str]:
    """The environment variables that the commands run with, beside the ordinary ones."""
    return {
        "PYTHONPATH": str(ROOT),
        "REELQ_URL": api.url,
        "REELQ_CONFIG": os.devnull,
        "REELQ_DATA_DIR": str(tmp_path / "data"),
        "TERM": "xterm-256color",
        "NO_COLOR": "1",
    }


@pytest.fixture
def environment(settings: dict[str, str]) -> dict[str, str]:
    """The whole environment of a command that runs as a process."""
    foreign = ("REELQ_", "FORCE_COLOR", "COLUMNS")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | settings


@pytest.fixture
def reelq_process(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Done]:
    """Run `reelq ARGUMENTS…` as a process in `tmp_path`; keyword arguments are environment variables."""

    def run(*arguments: str, **changes: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            cwd=tmp_path,
            env=environment | changes,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def reelq(
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Done]:
    """Run `reelq ARGUMENTS…` inside the test's own process, which is five times as fast."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, **changes: str) -> Done:
        for name, value in changes.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            build()(list(arguments), prog_name="reelq")
        code = end.value.code
        out, err = capsys.readouterr()
        return Done(code if isinstance(code, int) else 0, out, err)

    return run


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "sea.png"
    path.write_bytes(b"\x89PNG, as far as the stand-in cares")
    return path


@pytest.fixture
def finished() -> dict[str, Any]:
    """A succeeded job, whose video the stand-in serves."""
    return make_job("succeeded", sha256=hashlib.sha256(VIDEO).hexdigest(), video_bytes=len(VIDEO))


@pytest.fixture
def video() -> bytes:
    return VIDEO
