"""The versions of jobs, read as cheaply as the driver can: every poll of every caller asks for one."""

import json
from collections.abc import Sequence

from scheduler.store.database import Database
from scheduler.store.script import Statement

_OF = """
    SELECT s.job_id, s.version, coalesce(l.reports, 0)
    FROM job_states s LEFT JOIN leases l ON l.job_id = s.job_id
    WHERE s.job_id {some}
"""
_ONE = Statement(_OF.replace("{some}", "= :ids"))
_MANY = {
    "sqlite": Statement(_OF.replace("{some}", "IN (SELECT value FROM json_each(:ids))")),
    "postgresql": Statement(_OF.replace("{some}", "= ANY(:ids)")),
}


def versions(database: Database, job_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return (transition, progress report) of each of these jobs that exists."""
    if not job_ids:
        return {}
    if len(job_ids) == 1:
        rows = database.glance(_ONE, {"ids": job_ids[0]})
    else:
        ids = json.dumps(job_ids) if database.is_sqlite else list(job_ids)
        rows = database.glance(_MANY[database.dialect], {"ids": ids})
    return {job_id: (version, reports) for job_id, version, reports in rows}
