"""`python -m tests.fuzz`, for `make fuzz`: the whole document called for minutes, with a new seed each time."""

import argparse
import secrets
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import structlog

from tests.fuzz.run import run
from tests.fuzz.service import serving


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns 1 where an answer was not a documented one."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    add = parser.add_argument
    add("--examples", type=int, default=300, help="generated calls of each operation; default: %(default)s")
    add("--scenarios", type=int, default=1000, help="sequences of calls; default: %(default)s")
    add("--seed", type=int, default=secrets.randbits(32), help="draws what is called; default: a new one")
    options = parser.parse_args(arguments)
    _say(f"--seed {options.seed} draws the same again")
    warnings.filterwarnings("ignore", module="hypothesis")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reelq-fuzz-") as folder, (Path(folder) / "log").open("w") as log:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
        with serving(Path(folder) / "data") as world:
            outcome = run(world, seed=options.seed, max_examples=options.examples, scenarios=options.scenarios)
    for what, how in outcome.failures.items():
        _say(f"\n{what}\n{how}")
    for error in outcome.errors:
        _say(f"\n{error}")
    _say(
        f"{outcome.cases:,} calls of {len(outcome.answers)} operations, {outcome.scenarios} sequences, "
        f"{time.monotonic() - began:.0f} s: {len(outcome.failures)} failures, {len(outcome.errors)} errors"
    )
    return 1 if outcome.failures or outcome.errors else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
