"""What a run measures, from the command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.rows import TABLE
from scheduler.plans import PLANS

PARTS = ("computed", "service", "matmul", "plans", "batches", "peer", "caps")
_NAMES = tuple(row.name for row in TABLE)
_RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True, slots=True)
class Options:
    """How much of what to measure. `output` is the folder for the results, or None to print them only."""

    parts: tuple[str, ...]
    rows: tuple[str, ...]
    plans: tuple[str, ...]
    repeats: int
    recipe_jobs: int
    budget_seconds: float
    output: Path | None


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; exits with a message where it is wrong."""
    parser = argparse.ArgumentParser(prog="make bench-gpu", description="Measure the GPU worker beside its peer.")
    add = parser.add_argument
    add("--quick", action="store_true", help="the first row, once: tells whether it works")
    add("--parts", nargs="+", choices=PARTS, default=PARTS)
    add("--rows", nargs="+", choices=_NAMES, help="jobs to measure: size, frames, steps")
    add("--plans", nargs="+", choices=tuple(PLANS), default=tuple(PLANS))
    add("--repeats", type=int, help="of each measurement; medians are reported")
    add("--budget-seconds", type=float, default=float("inf"), help="after so long, start no new measurement")
    add("--no-peer", action="store_true", help="leave the stock pipeline out")
    add("--output", type=Path, help=f"folder for gpu.json and gpu.md (default: {_RESULTS}; none with --quick)")
    asked = parser.parse_args(arguments)
    quick = asked.quick
    return Options(
        parts=tuple(part for part in asked.parts if not (asked.no_peer and part == "peer")),
        rows=tuple(asked.rows or (_NAMES[:1] if quick else _NAMES)),
        plans=tuple(plan for plan in PLANS if plan in asked.plans),
        repeats=asked.repeats or (1 if quick else 3),
        recipe_jobs=2 if quick else 5,
        budget_seconds=asked.budget_seconds,
        output=asked.output or (None if quick else _RESULTS),
    )
