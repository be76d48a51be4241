"""Compare orders and placements: the scheduler itself in virtual time, and simpler policies, on the same streams.

The streams are composites: see `benchmarks.schedule.arrivals`. Nothing here depends on how fast the machine is.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.schedule import report
from benchmarks.schedule.arrivals import MIX, TimesAndUsers, drawn, recorded
from benchmarks.schedule.contestants import NAMES, Trial, run
from benchmarks.schedule.fleet import FLEET
from benchmarks.schedule.outcome import medians

LOADS = (0.7, 0.9, 1.1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its tables."""
    asked = _asked(arguments)
    results = _measured(asked, _times_and_users(asked))
    print(report.markdown(results))
    if asked.output is not None:
        report.store(asked.output, results)


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedule", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--arrivals", type=Path, help="a CSV file with gmt_create and groupId, in time order (default: drawn by seed)")
    add("--jobs", type=int, default=1000, help="jobs of a stream, without the flood (default: 1000)")
    add("--streams", type=int, default=3, help="streams of each load (default: 3)")
    add("--seed", type=int, default=1, help="what the streams are drawn by (default: 1)")
    add("--output", type=Path, default=Path("benchmarks/results"), help="where the results are written")
    add("--quick", action="store_true", help="one stream of 200 jobs, and nothing is written")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.jobs, asked.streams, asked.output = 200, 1, None
    for name, least in {"jobs": 20, "streams": 1}.items():
        if getattr(asked, name) < least:
            parser.error(f"--{name} must be at least {least}")
    return asked


def _times_and_users(asked: argparse.Namespace) -> Sequence[TimesAndUsers]:
    if asked.arrivals is None:
        return [drawn(asked.jobs, asked.seed + number) for number in range(asked.streams)]
    try:
        return recorded(asked.arrivals, asked.jobs, asked.streams)
    except (OSError, ValueError) as error:
        sys.exit(f"--arrivals: {error}")


def _measured(asked: argparse.Namespace, streams: Sequence[TimesAndUsers]) -> dict[str, Any]:
    trials = [
        Trial(name, stream, load, asked.seed + number)
        for load in LOADS
        for name in NAMES
        for number, stream in enumerate(streams)
    ]
    print(f"playing {len(trials)} streams of {asked.jobs} jobs", file=sys.stderr)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(run, trials))
    loads: dict[str, Any] = {}
    for load in LOADS:
        of = {
            name: [one for trial, one in zip(trials, found, strict=True) if (trial.load, trial.name) == (load, name)]
            for name in NAMES
        }
        loads[str(load)] = {name: {"median": medians(each), "streams": each} for name, each in of.items()}
    return {
        "arrivals": "drawn" if asked.arrivals is None else asked.arrivals.name,
        "jobs": asked.jobs,
        "streams": asked.streams,
        "seed": asked.seed,
        "fleet": [gpu.kind for gpu in FLEET],
        "mix": {"x".join(map(str, shape)): share for shape, share in MIX.items()},
        "loads": loads,
    }


if __name__ == "__main__":
    main()
