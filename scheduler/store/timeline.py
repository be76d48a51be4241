"""Statements about what ran where and when: many narrow rows, and all of the few that are shown."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from scheduler.store import script
from scheduler.store.samples import Part
from scheduler.store.script import Statement

_RUN = "SELECT gpu_id, started_at, ended_at, outcome, job_id, lease FROM attempts WHERE started_at < :until"
# The index of ended attempts has all of these columns.
_RUNS = f"{_RUN} AND ended_at > :since {{of}} UNION ALL {_RUN} AND ended_at IS NULL {{of}}"
_OF_ALL = Statement(_RUNS.replace("{of}", ""))
_OF_ONE = Statement(_RUNS.replace("{of}", "AND gpu_id = :gpu_id"))
_ATTEMPTS = Statement("""
    SELECT job_id, lease, number, tenant, model, plan, shape, predicted_seconds, predicted_vram_bytes, vram_peak_bytes,
           error_code
    FROM attempts WHERE job_id {among} (SELECT value FROM {each}(:job_ids{json})){end_among}
""")
_FLEET = Statement("SELECT id, host, name, total_bytes FROM gpus ORDER BY id")
GAUGES = ("used_bytes", "reserved_bytes", "foreign_bytes", "utilization_percent")
_MEANS = ", ".join(f"sum({name}_sum) / nullif(sum({name}_count), 0)" for name in GAUGES)
_CURVES = Statement(
    f"""
    SELECT gpu_id, at / CAST(:width AS bigint) * CAST(:width AS bigint) AS start, {_MEANS} FROM gpu_samples
    WHERE gpu_id {{among}} (SELECT value FROM {{each}}(:gpu_ids{{json}})){{end_among}}
      AND step_seconds = :step_seconds AND at >= :first AND at < :last
    GROUP BY 1, 2
    """  # noqa: S608  names of columns
)


def runs(conn: Connection, since: float, until: float, gpu_id: str | None = None) -> Sequence[Any]:
    """Return the attempts of all GPUs or one that ran at some time in [since, until).

    A row is the GPU's id, when the attempt began and ended, its outcome, its job and lease.
    """
    asked = {"since": since, "until": until, "gpu_id": gpu_id}
    return script.tuples(conn, _OF_ALL if gpu_id is None else _OF_ONE, asked)


def fleet(conn: Connection) -> Sequence[Any]:
    """Return the GPUs that are registered: id, host, name and total bytes."""
    return script.select(conn, _FLEET, {})


def attempts(conn: Connection, job_ids: Iterable[str]) -> Sequence[tuple[Any, ...]]:
    """Return all attempts of some jobs, with what each was of, and what it was predicted to need and needed.

    A row begins with job and lease.
    """
    return script.tuples(conn, _ATTEMPTS, {"job_ids": json.dumps(list(job_ids))})


def curves(conn: Connection, gpu_ids: Iterable[str], part: Part, width_seconds: int) -> Sequence[tuple[Any, ...]]:
    """Return the means of `GAUGES` in times of `width_seconds`, a multiple of the buckets' step.

    A row is the GPU's id, when the time begins, and a mean of each, None where nothing was measured.
    """
    asked = {"gpu_ids": json.dumps(list(gpu_ids)), "width": width_seconds, **part._asdict()}
    return script.tuples(conn, _CURVES, asked)
