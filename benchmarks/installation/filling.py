"""Fill a fresh database."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, select, text

from benchmarks.installation import bulk, rows, samples
from benchmarks.installation.fleet import Machine, machines
from benchmarks.installation.history import Past, histories
from scheduler.states import JobStatus
from scheduler.store import schema as s
from scheduler.store.database import Database
from scheduler.store.observations import KEPT

DAY = 86_400.0


def fill(database: Database, *, jobs: int, gpus: int, days: float, seed: int = 0, until: float | None = None) -> None:
    """Write `jobs` jobs that ended in the last `days` before `until` (now) on `gpus` GPUs, and all that goes with them.

    Nothing runs and nothing waits. The videos are not there, only their rows. One transaction; raises `ValueError` for
    a database in which there is a GPU or a job already.
    """
    with database.write() as conn:
        database.without_limits(conn)
        if not database.is_sqlite:
            conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # it takes its time
        if any(conn.execute(select(table.c.id).limit(1)).first() for table in (s.gpus, s.jobs)):
            raise ValueError("the database is not fresh: it has GPUs or jobs")
        end = database.now(conn) if until is None else until
        fleet = machines(gpus)
        past = histories(fleet, jobs, end - days * DAY, end, seed)
        _write_fleet(conn, fleet, end)
        _write_jobs(conn, past)
        _write_samples(conn, fleet, past, end - days * DAY, end)
        if not database.is_sqlite:
            conn.execute(text("ANALYZE"))  # as PostgreSQL does by itself within a minute


def _write_fleet(conn: Connection, fleet: Sequence[Machine], until: float) -> None:
    bulk.insert(conn, "models", rows.models(until))
    bulk.insert(conn, "tenants", rows.tenants())
    bulk.insert(conn, "gpus", rows.gpus(fleet, until))


def _write_jobs(conn: Connection, past: Sequence[Past]) -> None:
    bulk.insert(conn, "jobs", map(rows.job, past))
    bulk.insert(conn, "job_states", map(rows.state, past))
    bulk.insert(conn, "attempts", (row for one in past for row in rows.attempts(one)))
    bulk.insert(conn, "results", (rows.result(one) for one in past if one.status is JobStatus.SUCCEEDED))
    bulk.insert(conn, "observations", rows.observations(past, KEPT))
    told = rows.events(past)
    bulk.insert(conn, "events", told)
    bulk.insert(conn, "webhook_cursor", [{"only_row": 1, "position": len(told)}])  # of all that nobody was to be told


def _write_samples(
    conn: Connection, fleet: Sequence[Machine], past: Iterable[Past], since: float, until: float
) -> None:
    by_gpu: Mapping[str, list[Past]] = defaultdict(list)
    for one in past:
        by_gpu[one.machine.id].append(one)
    buckets = (row for gpu in fleet for row in samples.buckets(gpu, by_gpu[gpu.id], since, until))
    bulk.insert(conn, "gpu_samples", buckets)
