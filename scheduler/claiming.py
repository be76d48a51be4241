"""The claim: which job a worker may run now, decided and written in one transaction on its GPU's locked row.

The GPU's ledger says what is free. The best job that fits is taken, unless one that outranks it has waited too long
for memory: then the GPU is reserved for that one, and only what `backfill` allows may start before it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scheduler import backfill, catalog, placement
from scheduler.backfill import Running, Window
from scheduler.errors import NotFound
from scheduler.params import VideoParams
from scheduler.policy import Policy
from scheduler.records import Lease
from scheduler.states import GpuState
from scheduler.store import claims
from scheduler.store.database import Database
from scheduler.store.rows import as_json
from scheduler.store.script import Statement, Trip
from scheduler.wakeup import Wakeup, job_topic

_DEPTHS = (0, 1, 2, 4, 8, 16)  # how far past heads that others are claiming a claim looks, in turn


@dataclass(frozen=True, slots=True)
class Budget:
    """What a worker can give to jobs of one model: now, and once all that runs on its GPU has ended.

    `load_bytes` is what a job reserves beside its working set, because its model is larger than the one it replaces.
    """

    model: str
    free_bytes: int
    room_bytes: int
    load_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker that asks for a job: where, when, and its budget for each model it could run."""

    worker_id: str
    gpu_id: str
    plan: str
    now: float
    budgets: dict[str, Budget]  # the first is the model that it holds

    def budget(self, model: str) -> Budget:
        """Return the budget for a model; for one that only other workers of the GPU run, what its own would have."""
        return self.budgets.get(model) or next(iter(self.budgets.values()))


class Claims:
    """Claims of workers on jobs. Thread-safe; each call is one transaction."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup

    def claim(self, worker_id: str, gpu_id: str, free_bytes: int) -> Lease | None:
        """Lease the best job that may start now to a worker, or None.

        `free_bytes` is what the GPU has free beyond what the worker itself holds. Drain and pause, ledger, reservation
        and lease are one transaction on the GPU's locked row, so two claims can never promise the same bytes; claims
        on different GPUs do not wait for each other (SQLite: every write waits for the one before). Raises `NotFound`.
        """
        with self._database.trip() as trip:
            look = trip.row(claims.LOOK, {"gpu_id": gpu_id, "worker_id": worker_id})
            if look is None:
                raise NotFound(f"no GPU {gpu_id}")
            if look.state != GpuState.ACTIVE or not look.ready or look.condemned or look.paused_at is not None:
                return None
            if look.due_at is not None and look.due_at <= look.now:
                trip.run((claims.PROMOTE,), {"now": look.now})
            budgets = self._budgets(trip, look, free_bytes)
            seat = Seat(worker_id, gpu_id, look.plan, look.now, {budget.model: budget for budget in budgets})
            head = self._choose(trip, seat, look.reserved_job_id)
            lease = self._take(trip, seat, head) if head is not None else None
        if lease is not None:
            self._wakeup.notify(job_topic(lease.job_id))
        return lease

    def _budgets(self, trip: Trip, look: Any, measured_bytes: int) -> Iterator[Budget]:
        """The worker's own model costs a job its working set only; another one takes the own one's place first."""
        committed = look.resident_bytes + look.leased_bytes
        free = placement.ledger_free_bytes(measured_bytes, look.total_bytes, look.headroom_bytes, committed)
        room = placement.ledger_free_bytes(
            measured_bytes + look.leased_bytes, look.total_bytes, look.headroom_bytes, look.resident_bytes
        )
        yield Budget(look.model, free, room)
        for model in as_json(look.can_load):
            served = trip.row(_MODEL, {"model": model})
            if served is None or not catalog.knows(served.architecture):
                continue
            needed = catalog.architecture(served.architecture).resident_bytes(look.plan, served.weights_bytes)
            load_bytes = needed - look.own_bytes
            yield Budget(model, free - load_bytes, room - load_bytes, max(0, load_bytes))

    def _choose(self, trip: Trip, seat: Seat, reserved_job_id: str | None) -> Any:
        """The job to start now: the one the GPU is kept for, the best that fits, or one to run in the meantime."""
        kept = self._kept(trip, seat, reserved_job_id) if reserved_job_id is not None else None
        if kept is not None and kept.model in seat.budgets and self._need(kept) <= seat.budget(kept.model).free_bytes:
            return kept
        best = self._best(trip, seat)
        if kept is None:
            kept = self._reserve(trip, seat, best)
        if kept is None or best is None:
            return best
        window = self._window(trip, seat, kept)
        if window is None or window.allows(best.est_seconds, self._takes(seat, best), self._policy.backfill_slack):
            return best
        return self._best(trip, seat, window)

    def _kept(self, trip: Trip, seat: Seat, job_id: str) -> Any:
        """The job that the GPU is reserved for; a reservation that can no longer be kept is dropped."""
        job = trip.row(claims.ONE, {"job_id": job_id})
        if job is not None and job.plan == seat.plan and self._need(job) <= seat.budget(job.model).room_bytes:
            return job
        trip.run((claims.UNRESERVE,), {"job_id": job_id})
        return None

    def _best(self, trip: Trip, seat: Seat, window: Window | None = None) -> Any:
        """The highest ranked job that fits, and that ends or fits beside the reserved start where there is a window."""
        heads = [head for budget in seat.budgets.values() if (head := self._head(trip, seat, budget, window))]
        return min(heads, key=_order, default=None)

    def _head(self, trip: Trip, seat: Seat, budget: Budget, window: Window | None) -> Any:
        scan = self._scan(seat, budget, above=0, up_to_bytes=budget.free_bytes)
        if window is not None:
            within = window.seconds / self._policy.backfill_slack
            spare = (window.spare_bytes - budget.load_bytes) // self._policy.memory_class_bytes
            scan |= {"within_seconds": within, "spare": spare, "deep": self._policy.backfill_depth}
        statements: tuple[Statement, ...] = claims.BEST if window is None else claims.BEST_IN_TIME
        for depth in _DEPTHS:
            head = trip.row(statements, scan | {"depth": depth})
            if head is not None or self._database.is_sqlite or trip.row(claims.ANY, scan | {"depth": depth}) is None:
                return head
        return None

    def _reserve(self, trip: Trip, seat: Seat, best: Any) -> Any:
        """Reserve the GPU for the first job that needs more than is free now, if it outranks `best` and waited long."""
        blocked = [job for budget in seat.budgets.values() if (job := self._blocked(trip, seat, budget))]
        first = min(blocked, key=_order, default=None)
        if first is None or (best is not None and _order(best) < _order(first)):
            return None
        if seat.now - first.ready_at <= self._policy.reserve_after_seconds:
            return None
        window = self._window(trip, seat, first)
        if window is None:
            return None
        values = {
            "gpu_id": seat.gpu_id,
            "job_id": first.job_id,
            "reserved_bytes": self._need(first),
            "start_at": seat.now + window.seconds,
            "now": seat.now,
        }
        made = trip.run((claims.RESERVE,), values)[0].rowcount == 1  # or another GPU was faster
        return first if made else None

    def _blocked(self, trip: Trip, seat: Seat, budget: Budget) -> Any:
        block = self._policy.memory_class_bytes
        above = max(0, budget.free_bytes // block)
        if budget.room_bytes // block <= above:
            return None
        return trip.row(claims.BLOCKED, self._scan(seat, budget, above=above, up_to_bytes=budget.room_bytes))

    def _window(self, trip: Trip, seat: Seat, job: Any) -> Window | None:
        leases = trip.run(claims.RUNNING, {"gpu_id": seat.gpu_id})[0].rows
        running = [
            Running(
                row.reserved_bytes,
                backfill.remaining_seconds(row.predicted_seconds, row.fraction, seat.now - row.progress_at),
            )
            for row in leases
        ]
        return backfill.window(seat.budget(job.model).free_bytes, self._need(job), running)

    def _take(self, trip: Trip, seat: Seat, head: Any) -> Lease | None:
        fence = head.lease + 1
        reserved = self._takes(seat, head)
        event = {"lease": fence, "attempt": head.attempts + 1, "gpu": seat.gpu_id, "worker": seat.worker_id}
        values = {
            "job_id": head.job_id,
            "fence": fence,
            "gpu_id": seat.gpu_id,
            "worker_id": seat.worker_id,
            "reserved_bytes": reserved,
            "expires_at": seat.now + self._policy.lease_seconds,
            "event": json.dumps(event),
            "now": seat.now,
        }
        kept_here_or_there = (claims.UNRESERVE,) if head.reserved_gpu_id is not None else ()
        job = trip.commit(claims.TAKE, values, before=kept_here_or_there)
        if job is None:  # the row is locked, so this cannot be; but then it was not taken
            return None
        return Lease(
            job_id=head.job_id,
            fence=fence,
            worker_id=seat.worker_id,
            gpu_id=seat.gpu_id,
            reserved_bytes=reserved,
            attempt=head.attempts + 1,
            plan=head.plan,
            model=head.model,
            prompt=job.prompt,
            params=VideoParams.from_dict(as_json(job.params)),
            image_key=job.image_key,
        )

    def _takes(self, seat: Seat, job: Any) -> int:
        """What a job reserves where it starts: its working set, and what its model is larger by."""
        return self._need(job) + seat.budgets[job.model].load_bytes

    def _need(self, job: Any) -> int:
        return int(job.memory_class) * self._policy.memory_class_bytes

    def _scan(self, seat: Seat, budget: Budget, *, above: int, up_to_bytes: int) -> dict[str, Any]:
        largest = up_to_bytes // self._policy.memory_class_bytes
        return {"model": budget.model, "plan": seat.plan, "above": above, "largest": largest}


_MODEL = (Statement("SELECT architecture, weights_bytes FROM models WHERE id = :model"),)


def _order(job: Any) -> tuple[float, str]:
    """What the queue is sorted by: the highest rank first, and the smaller id among equals."""
    return -job.rank, job.job_id
