"""`python -m tests.chaos`, for `make chaos`: a long campaign on each engine, and a table of what happened."""

import argparse
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

from scheduler.store.database import Database, sqlite_url
from scheduler.store.migrate import migrate
from tests.chaos.campaign import Campaign
from tests.chaos.plan import OUTAGES, Plan
from tests.chaos.report import Report
from tests.support.databases import ENGINES, PostgresServer, running_postgres

_JOBS_PER_KILL = 250
_JOBS_PER_STOP = 400
_JOBS_PER_OUTAGE = 5_000
_MOST_VIOLATIONS = 20  # shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns 1 where a rule was broken."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--jobs", type=int, default=50_000, help="on each engine; default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbits(32), help="draws what is done, and when; default: a new one"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and every process with it
    _say(f"{options.jobs:,} jobs on each of {', '.join(options.engines)}; --seed {options.seed} draws the same again")
    reports = {}
    for engine in options.engines:
        reports[engine] = _run(engine, options.jobs, options.seed)
        _say(f"{engine}: {reports[engine].run_seconds:.0f} s, {len(reports[engine].violations)} rules broken")
    _say(_table(reports))
    for engine, report in reports.items():
        for violation in report.violations[:_MOST_VIOLATIONS]:
            _say(f"{engine}: {violation}")
    return 1 if any(report.violations for report in reports.values()) else 0


def _run(engine: str, jobs: int, seed: int) -> Report:
    outages = jobs // _JOBS_PER_OUTAGE if engine == "postgresql" else 0
    plan = Plan(
        jobs=jobs,
        seed=seed,
        kills=jobs // _JOBS_PER_KILL,
        stops=jobs // _JOBS_PER_STOP,
        outages=tuple(islice(cycle(OUTAGES), outages)),
    )
    with tempfile.TemporaryDirectory(prefix="reelq-chaos-") as name, _database(engine, Path(name)) as (url, server):
        return Campaign(plan, url, Path(name), server).run()


@contextmanager
def _database(engine: str, folder: Path) -> Iterator[tuple[str, PostgresServer | None]]:
    if engine == "postgresql":
        with running_postgres() as server:
            yield server.url(server.create(server.migrated_template())), server
        return
    url = sqlite_url(folder / "queue.db")
    database = Database(url)
    migrate(database)
    database.close()
    yield url, None


def _table(reports: Mapping[str, Report]) -> str:
    """One line for each thing counted, one column for each engine."""
    columns = [dict(report.rows()) for report in reports.values()]
    names = list(dict.fromkeys(name for column in columns for name in column))
    lines = [("", *reports), *((name, *(column.get(name, "-") for column in columns)) for name in names)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    return "\n".join(
        "  ".join([first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))])
        for first, *rest in lines
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
