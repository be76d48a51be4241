"""Measure how long each view takes on a large installation: the answer alone, and until a browser has shown it.

An installation with a past is made first (`benchmarks.installation`) and served by a process of its own. A view's limit
is a second; beside it stands what the browser takes for an answer with nothing in it, on the same machine.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from benchmarks.http.processes import free_port, running, wait_until_it_answers
from benchmarks.installation.filling import fill
from benchmarks.machine import machine
from benchmarks.pages import report
from benchmarks.pages.browsing import browser_loads
from scheduler.store.database import Database, sqlite_url
from scheduler.store.migrate import migrate

NOTHING = "/healthz"
VIEWS = {
    "Overview": "/",
    "Jobs": "/jobs",
    "Jobs, failed": "/jobs?status=failed",
    "Jobs, search": "/jobs?q=fox",
    "A job": "/jobs/{job}",
    "Submit": "/submit",
    "Timeline, an hour": "/timeline",
    "Timeline, a week": "/timeline?span=7d",
    "GPUs": "/gpus",
    "A GPU": "/gpus/{gpu}",
    "Advice": "/advice",
    "Costs, a month": "/costs",
}
_PAGE = {"Accept": "text/html"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its table; exits with a message where a view fails."""
    asked = _asked(arguments)
    with tempfile.TemporaryDirectory(prefix="reelq-pages-") as folder:
        results = _measured(Path(folder), asked)
    print(report.markdown(results))
    if asked.output is not None:
        report.store(asked.output, results)


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--jobs", type=int, default=100_000, help="jobs that have ended (default: 100000)")
    add("--gpus", type=int, default=64, help="GPUs (default: 64)")
    add("--days", type=int, default=7, help="days that they took (default: 7)")
    add("--repeats", type=int, default=7, help="times that each view is asked for (default: 7)")
    add("--output", type=Path, default=Path("benchmarks/results"), help="where the results are written")
    add("--quick", action="store_true", help="2,000 jobs, 4 GPUs, twice, and nothing is written")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.jobs, asked.gpus, asked.repeats, asked.output = 2000, 4, 2, None
    return asked


def _measured(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    data = folder / "data"
    data.mkdir(mode=0o700)
    print(f"making {asked.jobs} jobs on {asked.gpus} GPUs", file=sys.stderr)
    with closing(Database(sqlite_url(data / "reelq.db"))) as database:
        migrate(database)
        fill(database, jobs=asked.jobs, gpus=asked.gpus, days=asked.days)
    port, log = free_port(), folder / "serve.log"
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port), "--data", str(data)]
    with running(command, log, {"REELQ_GPU_HOUR_COST": "1.5"}) as process:
        wait_until_it_answers(process, port, NOTHING, log)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            paths = _paths(client)
            answers = {name: _answers(client, path, asked.repeats) for name, path in paths.items()}
        loads = browser_loads(str(client.base_url), {**paths, "nothing": NOTHING}, asked.repeats)
    return {
        "jobs": asked.jobs,
        "gpus": asked.gpus,
        "days": asked.days,
        "repeats": asked.repeats,
        "machine": machine(folder),
        "views": {
            name: {**answer, "load_seconds": loads.get(name) if loads else None} for name, answer in answers.items()
        },
        "nothing_load_seconds": loads.get("nothing") if loads else None,
    }


def _paths(client: httpx.Client) -> dict[str, str]:
    job = client.get("/v1/jobs", params={"status": "succeeded", "limit": 1}).json()["data"][0]["id"]
    gpu = client.get("/v1/admin/gpus").json()["data"][0]["id"]
    return {name: path.format(job=job, gpu=gpu) for name, path in VIEWS.items()}


def _answers(client: httpx.Client, path: str, repeats: int) -> Mapping[str, float]:
    """Ask for a view once, and then `repeats` times; seconds from the request to the end of its answer."""

    def ask() -> int:
        answer = client.get(path, headers=_PAGE)
        if answer.status_code != httpx.codes.OK:
            sys.exit(f"{path} was answered {answer.status_code}: {answer.text[:500]}")
        return len(answer.content)

    first, size = _timed(ask)
    again = statistics.median(_timed(ask)[0] for _ in range(repeats))
    return {"first_seconds": first, "seconds": again, "bytes": size}


def _timed(call: Callable[[], int]) -> tuple[float, int]:
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


if __name__ == "__main__":
    main()
