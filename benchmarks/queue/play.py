"""Plays one role of one queue and prints one JSON object: `python -m benchmarks.queue.play MODULE ROLE`.

Standard library only, since each queue runs in its own environment. Times are `time.monotonic`, which all processes of
a machine share.
"""

import argparse
import importlib
import json
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.queue.systems import System
from benchmarks.queue.timing import spread

_SOCKET = "ran.sock"
_LIMIT_SECONDS = 120
_TIME = struct.Struct("d")


def main() -> None:
    """Play the role that the command line names and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("module", help="its `SYSTEM` is the queue")
    parser.add_argument("role", choices=("install", "fill", "submit", "claim", "probe", "drain", "serve"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--worker", default=0, type=int)
    parser.add_argument("--jobs", default=0, type=int)
    parser.add_argument("--callers", default=1, type=int)
    parser.add_argument("--seconds", default=0.0, type=float, help="the longest a probe may take")
    asked = parser.parse_args()
    kind: type[System] = importlib.import_module(asked.module).SYSTEM
    system = kind(asked.url, asked.folder, asked.worker)
    print(json.dumps(_play(system, asked)), flush=True)


def _play(system: System, asked: argparse.Namespace) -> dict[str, Any]:
    match asked.role:
        case "install":
            system.install()
            return {}
        case "fill":
            system.fill(asked.jobs)
            return {}
        case "submit":
            return {"jobs_per_second": system.submit(asked.jobs, asked.callers)}
        case "claim":
            return spread(system.claim(asked.jobs))
        case "probe":
            return _probe(system, asked.jobs, asked.seconds, asked.folder)
        case "drain":
            return _drain(system)
        case _:
            _serve(system, asked.folder)
            return {}


@contextmanager
def hearing(folder: Path) -> Iterator[Callable[[], float]]:
    """Yield a function that waits for the next job to run under `serve` in `folder`, and returns when that was."""
    path = folder / _SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ears:
        ears.bind(str(path))
        ears.settimeout(_LIMIT_SECONDS)
        try:
            yield lambda: float(_TIME.unpack(ears.recv(_TIME.size))[0])
        finally:
            path.unlink()


def _probe(system: System, jobs: int, seconds: float, folder: Path) -> dict[str, float]:
    with hearing(folder) as ran_at:
        ends_at = time.monotonic() + seconds
        return spread(system.probe(ran_at, lambda done: done >= jobs or (done > 0 and time.monotonic() > ends_at)))


def _drain(system: System) -> dict[str, Any]:
    """Two lines on stdout: `ready`, and after a line on stdin has said go, the time of each job run."""
    print("ready", flush=True)
    sys.stdin.readline()
    ran_at: list[float] = []
    system.work(lambda: ran_at.append(time.monotonic()), until_empty=True)
    return {"ran_at": ran_at}


def _serve(system: System, folder: Path) -> None:
    path = str(folder / _SOCKET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:

        def ran() -> None:
            mouth.sendto(_TIME.pack(time.monotonic()), path)

        system.work(ran, until_empty=False)


if __name__ == "__main__":
    main()
