"""Claims on PostgreSQL while an old transaction is open, which keeps every dead row and index entry since its start."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.queue.claims import DeepQueue
from benchmarks.queue.timing import spread


def measure(queue: DeepQueue, url: str, case: str, *, claims: int, minutes: float) -> dict[str, Any]:
    """Claim and finish at least `claims` jobs, for at least `minutes`, during one snapshot; compare start and end."""
    tenth = max(1, claims // 10)
    with _snapshot(url):
        began = time.monotonic()
        first = queue.claim(case, tenth)
        done, last = tenth, first
        while done < claims or time.monotonic() - began < minutes * 60:
            last = queue.claim(case, tenth)
            done += tenth
        held = time.monotonic() - began
    return {"first": spread(first), "last": spread(last), "claims": done, "held_seconds": round(held, 1)}


@contextmanager
def _snapshot(url: str) -> Iterator[None]:
    with psycopg.connect(url) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT count(*) FROM gpus")  # the first query takes the snapshot
        yield
