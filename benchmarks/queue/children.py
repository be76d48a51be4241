"""Processes that play one role each; see `benchmarks.queue.play`."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.queue.timing import rate_together

ROOT = Path(__file__).parents[2]
_LIMIT_SECONDS = 600
_STOP_SECONDS = 10

Child = subprocess.Popen[str]


@dataclass(frozen=True, slots=True)
class Program:
    """A queue's module, the Python that runs it, and the database and folder that its processes share."""

    python: Path
    module: str
    url: str
    folder: Path

    def play(self, role: str, **options: object) -> dict[str, Any]:
        """Run a role to its end and return what it printed; raises CalledProcessError when it fails."""
        done = subprocess.run(
            self._command(role, options), cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=_LIMIT_SECONDS
        )
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def playing(self, role: str, **options: object) -> AbstractContextManager[Child]:
        """Run a role while the block runs."""
        return running(self._command(role, options))

    def drain(self) -> float:
        """Let two worker processes run all that is queued, one job at a time; return jobs/s."""
        with self.playing("drain", worker=0) as one, self.playing("drain", worker=1) as other:
            workers = (one, other)
            for worker in workers:
                wait_for_line(worker, "ready")
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            return rate_together([json.loads(_last_line(worker))["ran_at"] for worker in workers])

    def dispatch(self, jobs: int, seconds: float) -> dict[str, float]:
        """Return the spread of the time from the call that submits to the job's start, on an idle queue."""
        with self.playing("serve"):
            return self.play("probe", jobs=jobs, seconds=seconds)

    def _command(self, role: str, options: dict[str, object]) -> list[str]:
        flags = {"url": self.url, "folder": self.folder, **options}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return [str(self.python), "-m", "benchmarks.queue.play", self.module, role, *words]


@contextmanager
def running(command: Sequence[str]) -> Iterator[Child]:
    """Run a process while the block runs."""
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()


def wait_for_line(child: Child, line: str) -> None:
    """Wait until a process prints `line`; raises RuntimeError when it prints anything else, or ends."""
    assert child.stdout is not None
    if child.stdout.readline().strip() != line:
        raise RuntimeError(f"{child.args!r} did not get as far as {line!r}")


def without_settings() -> dict[str, str]:
    """Return this process's variables without those that configure an installed service."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("REELQ_")}
    return others | {"REELQ_CONFIG": os.devnull}


def _last_line(child: Child) -> str:
    assert child.stdout is not None
    lines = child.stdout.read().splitlines()
    if child.wait(_STOP_SECONDS) or not lines:
        raise RuntimeError(f"{child.args!r} failed with status {child.returncode}")
    return lines[-1]
