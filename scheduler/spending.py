"""What attempts and GPUs have cost, read from the store."""

from typing import Any

from sqlalchemy import select

from scheduler.accounting import Presence, bill
from scheduler.bills import Bill
from scheduler.prices import Prices
from scheduler.samples import Samples, Totals
from scheduler.store import schema as s
from scheduler.store import script
from scheduler.store.database import Database
from scheduler.store.script import Statement

_USUAL_SECONDS = 30.0 * 86_400
_COLUMNS = """
    gpu_id, gpu_kind, tenant, model, started_at, ended_at, outcome, energy_joules, CAST(stage_seconds AS text)
"""
_RUNS = Statement(f"""
    SELECT {_COLUMNS} FROM attempts WHERE ended_at > :since AND started_at < :until
    UNION ALL
    SELECT {_COLUMNS} FROM attempts WHERE ended_at IS NULL AND started_at < :until
""")  # noqa: S608  our own words


class Spending:
    """What was spent, as far back as `kept_seconds`: until then attempts are kept. Thread-safe."""

    def __init__(self, database: Database, samples: Samples, kept_seconds: float) -> None:
        self._database = database
        self._samples = samples
        self._kept_seconds = kept_seconds

    def bill(self, prices: Prices, since: float | None = None, until: float | None = None) -> Bill:
        """Return what was spent in [since, until) at these prices; the default is until now, and the 30 days before.

        Times are seconds since 1970 by the database's clock. What is still to come, or kept no longer, is left out of
        the bill's window; nothing was spent where that leaves none, nor where `since` is not before `until`. How long
        GPUs were online is as exact as their samples: to a minute in the last week, and to an hour before that.
        """
        with self._database.read() as conn:
            now = self._database.now(conn)
            end = now if until is None else until
            start = end - _USUAL_SECONDS if since is None else min(since, end)
            start, end = (max(now - self._kept_seconds, min(at, now)) for at in (start, end))
            asked = {"since": start, "until": end}
            rows: list[Any] = script.tuples(conn, _RUNS, asked) if start < end else []  # of a Run each
            named = conn.execute(select(s.gpus.c.id, s.gpus.c.name, s.gpus.c.kind))
            known = {gpu_id: (name, kind) for gpu_id, name, kind in named}
        totals = self._samples.totals(start, end)
        fleet = {gpu_id: _presence(known.get(gpu_id), totals.get(gpu_id)) for gpu_id in {*known, *totals}}
        return bill(rows, fleet, prices, (start, end))


def _presence(known: tuple[str, str] | None, seen: Totals | None) -> Presence:
    name, kind = known or (None, None)
    if seen is None:
        return Presence(name, kind)
    watts = seen.power_watts
    return Presence(name, kind, seen.seconds, None if watts is None else watts.mean * seen.seconds)
