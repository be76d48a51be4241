"""What a run measures, from the command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PARTS = ("submits", "polls", "waiting", "streams", "start")
_RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True, slots=True)
class Options:
    """How much of what to measure. `output` is the folder for the results, or None to print them only."""

    parts: tuple[str, ...]
    peer: bool
    repeats: int
    seconds: float  # of each measure of calls
    connections: tuple[int, ...]
    clients: int  # that wait
    changes: int  # of the one job that they wait for
    jobs: int  # that are timed to their start
    output: Path | None


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; exits with a message where it is wrong."""
    parser = argparse.ArgumentParser(prog="make bench-http", description="Measure the front door.")
    add = parser.add_argument
    add("--quick", action="store_true", help="small figures, one repeat: tells whether it works, in about a minute")
    add(
        "--parts",
        type=_parts,
        default=PARTS,
        help=f"of {','.join(PARTS)}; the results of the others stay as they are (default: all)",
    )
    add("--no-peer", action="store_true", help="leave BentoML out")
    add("--repeats", type=int, help="of everything, interleaved; medians are reported")
    add("--output", type=Path, help=f"folder for http.json and http.md (default: {_RESULTS}; none with --quick)")
    asked = parser.parse_args(arguments)
    quick = asked.quick
    return Options(
        parts=asked.parts,
        peer=not asked.no_peer,
        repeats=asked.repeats or (1 if quick else 3),
        seconds=1.0 if quick else 4.0,
        connections=(1, 8) if quick else (1, 8, 32),
        clients=100 if quick else 1_000,
        changes=2 if quick else 5,
        jobs=30 if quick else 300,
        output=asked.output or (None if quick else _RESULTS),
    )


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(text.split(","))
    if wrong := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of {', '.join(PARTS)}")
    return parts
