"""Two front-end processes with one database, and a rate limit between them."""

import subprocess
import sys
import time
from pathlib import Path

from tests.support.databases import database_url, engine, fresh_database, sqlite_template

__all__ = ["database_url", "engine", "fresh_database", "sqlite_template"]

ROOT = Path(__file__).parents[3]
PER_MINUTE = 300
# Takes until it has been refused for a while, and says how many passed.
TAKER = f"""
import sys
from scheduler.ratelimits import RateLimits
from scheduler.store.database import Database

limits = RateLimits(Database(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
count = refused = 0
while refused < 1000:
    allowed = limits.take("submit:acme", {PER_MINUTE}).allowed
    count, refused = count + allowed, 0 if allowed else refused + 1
print(count)
"""


def test_two_processes_together_stay_within_the_limit(database_url: str) -> None:
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, database_url],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        for taker in takers:
            assert taker.stdout is not None
            assert taker.stdout.readline() == "ready\n"
        began = time.monotonic()
        for taker in takers:
            assert taker.stdin is not None
            print(file=taker.stdin, flush=True)
        counts = [int(taker.communicate(timeout=60)[0]) for taker in takers]
        took = time.monotonic() - began
    finally:
        for taker in takers:
            taker.kill()
            taker.wait()
    assert PER_MINUTE <= sum(counts) <= PER_MINUTE + took * PER_MINUTE / 60 + 1
