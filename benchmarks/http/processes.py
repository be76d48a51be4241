"""The processes of a run: each ends with the block that started it, and with the benchmark whatever happens to it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0

Process = subprocess.Popen[str]


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, *, talks: bool = False
) -> Iterator[Process]:
    """Run a process while the block runs; what it writes goes to `log`, unless it `talks`: then its output is read."""
    pipe = subprocess.PIPE
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.http.leash", str(os.getpid()), *command],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=pipe,
            stdout=pipe if talks else errors,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: Process) -> None:
    """End a process and all that it has started, however deep and in whichever session."""
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, alive = psutil.wait_procs([psutil.Process(process.pid), *started], _STOP_SECONDS)
        for each in alive:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    process.communicate()


def play(role: str, spec: Mapping[str, Any], log: Path) -> dict[str, Any]:
    """Run a role of the load generator to its end and return what it measured."""
    with generating(role, spec, log) as process:
        return result_of(process, log)


@contextmanager
def generating(role: str, spec: Mapping[str, Any], log: Path) -> Iterator[Process]:
    """Run a role of the load generator while the block runs."""
    with running([sys.executable, "-m", "benchmarks.http.load", role], log, talks=True) as process:
        tell(process, json.dumps(spec))
        yield process


def result_of(process: Process, log: Path) -> dict[str, Any]:
    """Return what the load generator prints at its end; raises RuntimeError when it fails."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the load generator failed:\n{log.read_text()[-2000:]}")
    result: dict[str, Any] = json.loads(line)
    return result


def tell(process: Process, line: str) -> None:
    """Send a line to a process."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def wait_for_word(process: Process, word: str, log: Path) -> list[str]:
    """Return the words behind `word` of the next line that begins with it; raises RuntimeError at the end of output."""
    assert process.stdout is not None
    for line in process.stdout:
        first, *rest = line.split()
        if first == word:
            return rest
    raise RuntimeError(f"{process.args!r} did not get as far as {word!r}:\n{log.read_text()[-2000:]}")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_until_it_answers(process: Process, port: int, path: str, log: Path) -> None:
    """Wait until a server answers `path` with 200; raises RuntimeError when it ends or takes too long."""
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}{path}", timeout=_START_SECONDS).status_code == HTTPStatus.OK:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not answer:\n{log.read_text()[-2000:]}")


class Meter:
    """What a server's processes use."""

    def __init__(self, process: Process) -> None:
        root = psutil.Process(process.pid)
        self._processes = [root, *root.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return what they have used of the processors until now."""
        return sum(each.cpu_times().user + each.cpu_times().system for each in self._processes)

    def resident_bytes(self) -> int:
        """Return their resident size now."""
        return sum(int(each.memory_info().rss) for each in self._processes)

    def settle(self, seconds: float = 0.5, limit_seconds: float = 30.0) -> None:
        """Wait until they have been nearly idle for so long, or `limit_seconds` have passed."""
        until = time.monotonic() + limit_seconds
        while time.monotonic() < until:
            before = self.cpu_seconds()
            time.sleep(seconds)
            if self.cpu_seconds() - before < 0.1 * seconds:
                return
