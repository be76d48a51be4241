"""Fill a fresh database with an installation's past, to try pages and reports on.

python -m benchmarks.installation --url sqlite:////tmp/big/reelq.db --jobs 100000 --gpus 64
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from benchmarks.installation.filling import fill
from scheduler.errors import SchedulerError
from scheduler.store.database import Database
from scheduler.store.migrate import migrate


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the database that the command line names; exits with a message where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.installation", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--url", required=True, help="sqlite:///… or postgresql://…; its tables are made where there are none")
    add("--jobs", type=_number, default=100_000, help="that have ended (default: 100000)")
    add("--gpus", type=_number, default=64, help="that they ran on (default: 64)")
    add("--days", type=_number, default=7, help="that they took, until now (default: 7)")
    add("--seed", type=int, default=0, help="of all that is left to chance (default: 0)")
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        with closing(Database(asked.url)) as database:
            migrate(database)
            fill(database, jobs=asked.jobs, gpus=asked.gpus, days=asked.days, seed=asked.seed)
    except (SchedulerError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print(f"{asked.jobs} jobs on {asked.gpus} GPUs in {time.monotonic() - began:.1f} s")


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


if __name__ == "__main__":
    main()
