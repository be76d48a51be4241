"""The work that is due, for `scheduler.capacity`: what runs, and what waits and could run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from scheduler import catalog
from scheduler.capacity import Work
from scheduler.footprints import Predictor
from scheduler.offers import offers
from scheduler.policy import Policy
from scheduler.records import Gpu, ServedModel
from scheduler.store import capacity as store
from scheduler.store import gates, lines, reads


@dataclass(frozen=True, slots=True)
class Pressure:
    """All the work that is due, and what of it waits and no GPU in service could hold."""

    work: Work
    stranded: Work


def read(
    conn: Connection,
    clock: str,
    policy: Policy,
    predictor: Predictor,
    in_service: Sequence[Gpu],
    startable: Sequence[Gpu],
    target_seconds: float,
) -> Pressure:
    """Return what is due by `clock`, an SQL expression; of a limited tenant's jobs, those that its limit lets run.

    Jobs are left out that a GPU more would not help: while the queue is paused or their model held, and those that
    neither a GPU in service nor one that could be started would hold. `target_seconds` is within which they should end.
    """
    running = [lease.remaining_seconds for gpu in in_service for lease in gpu.leases]
    work, stranded = Work(len(running), sum(running)), Work()
    present = lines.present(conn, clock)
    if present.pause is not None:
        return Pressure(work, stranded)
    served = {name: one for name, one in reads.models(conn).items() if one.held is None}
    here, elsewhere = (_room(served, gpus, predictor, policy) for gpus in (in_service, startable))
    queued = store.due(conn, present.now)
    limited = gates.places(conn, {row.gate for row in queued if row.gate}, policy.tenant_limits.max_running)
    places = {gate: max(0, one.limit - len(one.running)) for gate, one in limited.items()}
    for row in queued:
        line = (row.model, row.plan)
        fits_here = row.memory_class <= here.get(line, 0)
        if not fits_here and row.memory_class > elsewhere.get(line, 0):
            continue
        jobs = min(row.jobs, places.get(row.gate, row.jobs))
        seconds = float(row.seconds) if jobs == row.jobs else min(float(row.seconds), jobs * target_seconds)
        if row.gate in places:
            places[row.gate] -= jobs
        work += Work(jobs, seconds)
        stranded += Work() if fits_here else Work(jobs, seconds)
    return Pressure(work, stranded)


def _room(
    served: Mapping[str, ServedModel], gpus: Collection[Gpu], predictor: Predictor, policy: Policy
) -> dict[tuple[str, str], int]:
    """The largest memory class that one of the GPUs has room for, by model and plan."""
    found: dict[tuple[str, str], int] = {}
    for model in served.values():
        if not catalog.knows(model.architecture):
            continue
        any_params = replace(catalog.architecture(model.architecture).defaults, allow_int8=True)
        for offer in offers(model, gpus, any_params, predictor):
            line = (model.id, offer.footprint.plan)
            found[line] = max(found.get(line, 0), offer.capacity_bytes // policy.memory_class_bytes)
    return found
