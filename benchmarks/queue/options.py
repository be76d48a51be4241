"""What a run measures, from the command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ENGINES = ("sqlite", "postgresql")
MEASURES = ("throughput", "claims", "snapshot", "crash")
_RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True, slots=True)
class Options:
    """How much of what to measure. `output` is the folder for the results, or None to print them only."""

    engines: tuple[str, ...]
    measures: tuple[str, ...]
    peers: bool
    sizes: tuple[int, ...]
    repeats: int
    claims: int  # of each case, over all repeats
    jobs: int  # submitted by one caller, and four times as many by eight
    dispatch_seconds: float
    snapshot_claims: int
    snapshot_minutes: float
    kills: int
    output: Path | None


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; exits with a message where it is wrong."""
    parser = argparse.ArgumentParser(prog="make bench-queue", description="Measure the queue beside other queues.")
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes, one repeat: tells whether it works, in under two minutes")
    add("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    add("--measure", nargs="+", choices=MEASURES, default=MEASURES)
    add("--no-peers", action="store_true", help="leave the other queues out")
    add("--sizes", nargs="+", type=int, help="queued jobs that claims are measured with (5000000: on SQLite only)")
    add("--repeats", type=int, help="of everything, interleaved; medians are reported")
    add("--snapshot-minutes", type=float, default=0.0, help="keep claiming for so long during one old snapshot")
    add("--output", type=Path, help=f"folder for queue.json and queue.md (default: {_RESULTS}; none with --quick)")
    asked = parser.parse_args(arguments)
    quick = asked.quick
    return Options(
        engines=tuple(asked.engines),
        measures=tuple(asked.measure),
        peers=not asked.no_peers,
        sizes=tuple(asked.sizes or ((1_000, 20_000) if quick else (1_000, 100_000, 1_000_000))),
        repeats=asked.repeats or (1 if quick else 3),
        claims=200 if quick else 1_200,
        jobs=200 if quick else 1_000,
        dispatch_seconds=1.5 if quick else 4.0,
        snapshot_claims=500 if quick else 5_000,
        snapshot_minutes=asked.snapshot_minutes,
        kills=1 if quick else 3,
        output=asked.output or (None if quick else _RESULTS),
    )
