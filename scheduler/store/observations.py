"""Statements about observations: what runs have needed.

Of each GPU kind, model, plan and shape the last 32 are kept, and as many of those that a calibration made.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, or_, select

from scheduler.learning import Observation
from scheduler.states import Source
from scheduler.store import schema as s

KEPT = 32
_KEPT_IN_ALL = 100_000  # of however many shapes; beyond, the oldest go
_READ = 16_384  # the newest that predictions are made from
# An out-of-memory failure counts no longer than this: it may have closed the very GPU that could prove it wrong.
_BOUND_SECONDS = 6 * 3600.0


class Mark(NamedTuple):
    """How much is known: two marks are equal when nothing was added between them, nor any failure forgotten."""

    newest: int
    rows: int
    bounds: int


def add(conn: Connection, seen: Sequence[Observation], now: float) -> None:
    """Insert observations, the oldest first, and delete what is too much of the same."""
    if not seen:
        return
    conn.execute(insert(s.observations), [_values(one, now) for one in seen])
    o = s.observations.c
    for key in sorted({(*_key(one), one.source is Source.CALIBRATION) for one in seen}):
        same = _same(*key)
        oldest = select(o.id).where(same).order_by(o.id.desc()).offset(KEPT - 1).limit(1).scalar_subquery()
        conn.execute(delete(s.observations).where(same, o.id < oldest))
    newest = select(func.max(o.id)).scalar_subquery()
    conn.execute(delete(s.observations).where(o.id <= newest - _KEPT_IN_ALL))


def add_new(conn: Connection, seen: Sequence[Observation], now: float) -> int:
    """Insert those calibration measurements that are not there yet; returns how many."""
    o = s.observations.c
    known: set[Observation] = set()
    for kind, model in sorted({(one.gpu_kind, one.model) for one in seen}):
        same = select(s.observations).where(o.gpu_kind == kind, o.model == model, o.source == Source.CALIBRATION)
        known.update(map(_observation, conn.execute(same)))
    fresh = [one for one in seen if one not in known]
    add(conn, fresh, now)
    return len(fresh)


def mark(conn: Connection, now: float) -> Mark:
    """Return how much is known at `now`."""
    o = s.observations.c
    newest, rows = conn.execute(select(func.coalesce(func.max(o.id), 0), func.count())).one()
    bounds = select(func.count()).where(o.source == Source.OUT_OF_MEMORY, o.at >= now - _BOUND_SECONDS)
    return Mark(newest, rows, conn.execute(bounds).scalar_one())


def latest(conn: Connection, now: float) -> list[Observation]:
    """Return what counts at `now`, the oldest first."""
    o = s.observations.c
    counts = or_(o.source != Source.OUT_OF_MEMORY, o.at >= now - _BOUND_SECONDS)
    found = conn.execute(select(s.observations).where(counts).order_by(o.id.desc()).limit(_READ)).all()
    return [_observation(row) for row in reversed(found)]


def _key(seen: Observation) -> tuple[str, str, str, str]:
    return seen.gpu_kind, seen.model, seen.plan, seen.shape_key


def _same(kind: str, model: str, plan: str, shape: str, calibrated: bool) -> ColumnElement[bool]:
    o = s.observations.c
    source = o.source == Source.CALIBRATION if calibrated else o.source != Source.CALIBRATION
    return and_(o.gpu_kind == kind, o.model == model, o.plan == plan, o.shape == shape, source)


def _values(seen: Observation, now: float) -> dict[str, object]:
    return {
        "at": now,
        "source": seen.source,
        "gpu_kind": seen.gpu_kind,
        "model": seen.model,
        "plan": seen.plan,
        "shape": seen.shape_key,
        "working_peak_bytes": seen.working_peak_bytes,
        "step_seconds": seen.step_seconds,
        "fixed_seconds": seen.fixed_seconds,
    }


def _observation(row: Row[tuple[object, ...]]) -> Observation:
    return Observation(
        source=Source(row.source),
        gpu_kind=row.gpu_kind,
        model=row.model,
        plan=row.plan,
        shape_key=row.shape,
        working_peak_bytes=row.working_peak_bytes,
        step_seconds=row.step_seconds,
        fixed_seconds=row.fixed_seconds,
    )
