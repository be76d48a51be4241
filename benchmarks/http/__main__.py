"""The command: measure, print a report, and store it."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.http import closed, fanout, report, start, wire
from benchmarks.http.contestants import (
    PHOTO,
    SMALL,
    Bare,
    BareWithImages,
    BentoML,
    Contestant,
    Reelq,
    ReelqServer,
    Server,
)
from benchmarks.http.options import Options, parse
from benchmarks.http.processes import Process, wait_for_word
from benchmarks.machine import machine
from benchmarks.queue import environments
from benchmarks.queue.children import without_settings
from benchmarks.queue.timing import median_of

# The scheduler of this process stands for workers, and sends no heartbeats meanwhile.
_SETTINGS = {"REELQ_LEASE_SECONDS": "3600", "REELQ_MAX_QUEUED": "10000000"}
_OPEN_FILES = 4096
_BEGAN = time.monotonic()


def main() -> None:
    """Measure what the command line asks for."""
    options = parse()
    variables = without_settings() | _SETTINGS
    os.environ.clear()
    os.environ.update(variables)
    signal.signal(signal.SIGTERM, _stop)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    results = report.stored(options.output)
    results["contestants"] = {}
    run = _Run(options)
    for part in options.parts:
        began = time.monotonic()
        measured = _MEASURES[part](run)
        results["parts"][part] = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": run.machine,
            "repeats": options.repeats,
            "seconds": round(time.monotonic() - began),
            "results": measured,
        }
        _say(f"{part}: done")
        results["contestants"] = {one.name: one.notes for one in (*run.contestants, *run.absent)}
        results["targets"] = report.targets(results["parts"])
        if options.output is not None:
            report.store(options.output, results)
    print(report.markdown(results))


class _Run:
    """What the parts share."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.photo = wire.photograph()
        self.machine = _machine()
        self.ours = Reelq()
        cores = os.cpu_count() or 1
        ours = [self.ours, Reelq(cores)] if cores > 1 else [self.ours]
        self.contestants: list[Contestant] = [*ours, Bare(), BareWithImages()]
        self.absent: list[Contestant] = []
        if options.peer:
            self._invite(BentoML())

    def _invite(self, peer: BentoML) -> None:
        try:
            environments.python_of("bentoml")
        except subprocess.CalledProcessError:
            peer.notes = "not measured: it could not be installed"
            self.absent.append(peer)
        else:
            self.contestants.append(peer)

    @contextmanager
    def serving(self, contestant: Contestant) -> Iterator[Any]:
        """Have a contestant serve on an empty folder, which is deleted at the end."""
        with (
            tempfile.TemporaryDirectory(prefix="reelq-bench-") as folder,
            contestant.serving(Path(folder), self.photo) as server,
        ):
            yield server


def _submits(run: _Run) -> dict[str, Any]:
    return _calls(run, ("form", "json"), polls=False)


def _polls(run: _Run) -> dict[str, Any]:
    return _calls(run, ("queued", "succeeded", "not modified"), polls=True)


def _calls(run: _Run, kinds: tuple[str, ...], *, polls: bool) -> dict[str, Any]:
    runs: dict[tuple[str, str, int], list[dict[str, float]]] = defaultdict(list)
    for repeat in range(run.options.repeats):
        for one in (each for each in run.contestants if each.polls or not polls):
            _say(f"{' and '.join(kinds)}, {repeat + 1} of {run.options.repeats}: {one.name}")
            with run.serving(one) as server:
                if polls:
                    one.prepare_polls(server)
                for kind in (kind for kind in kinds if kind in server.requests):
                    for connections in run.options.connections:
                        figures = closed.measure(server, kind, connections=connections, seconds=run.options.seconds)
                        runs[one.name, kind, connections].append(figures)
    results: dict[str, Any] = {}
    for (name, kind, connections), each in runs.items():
        results.setdefault(kind, {}).setdefault(name, {})[str(connections)] = median_of(each)
    return results


def _waiting(run: _Run) -> dict[str, Any]:
    return _fan_out(run, stream=False)


def _streams(run: _Run) -> dict[str, Any]:
    return _fan_out(run, stream=True)


def _fan_out(run: _Run, *, stream: bool) -> dict[str, Any]:
    options, runs = run.options, defaultdict(list)
    for repeat in range(options.repeats):
        _say(f"{'streams' if stream else 'long polls'}, {repeat + 1} of {options.repeats}")
        with run.serving(run.ours) as server:
            assert isinstance(server, ReelqServer)
            figures = fanout.one_job(
                server, clients=options.clients, stream=stream, changes=options.changes, seconds=options.seconds
            )
            runs["one job"].append(figures)
        with run.serving(run.ours) as server:
            runs["a job each"].append(fanout.many_jobs(server, clients=options.clients, stream=stream))
    return {name: {"clients": options.clients, **median_of(each)} for name, each in runs.items()}


def _start(run: _Run) -> dict[str, Any]:
    runs: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for repeat in range(run.options.repeats):
        for one in (each for each in run.contestants if isinstance(each, BentoML) or each is run.ours):
            _say(f"submit to running, {repeat + 1} of {run.options.repeats}: {one.name}")
            with ExitStack() as stack:
                server = stack.enter_context(run.serving(one))
                worker = stack.enter_context(server.working()) if isinstance(server, ReelqServer) else server.process
                for kind in (PHOTO, SMALL):
                    ran_at = partial(_ran_at, worker, server)
                    runs[kind, one.name].append(start.measure(server, kind, ran_at, run.options.jobs))
    results: dict[str, Any] = {}
    for (kind, name), each in runs.items():
        results.setdefault(kind, {})[name] = median_of(each)
    return results


def _ran_at(process: Process, server: Server) -> float:
    return float(wait_for_word(process, "ran", server.log)[0])


def _machine() -> dict[str, Any]:
    return {
        **machine(Path(tempfile.gettempdir())),
        **{name: version(name) for name in ("fastapi", "uvicorn")},
        "bentoml": environments.version_of("bentoml"),
    }


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(1)


def _say(line: str) -> None:
    print(f"{time.monotonic() - _BEGAN:5.0f} s  {line}", file=sys.stderr, flush=True)


_MEASURES = {"submits": _submits, "polls": _polls, "waiting": _waiting, "streams": _streams, "start": _start}

if __name__ == "__main__":
    main()
