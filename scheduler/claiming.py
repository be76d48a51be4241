"""The claim: which job a worker may run now, decided and written in one transaction on its GPU's locked row.

The GPU's ledger says what is free. The best job that fits is taken, unless one that outranks it has waited too long
for memory: then the GPU is reserved for that one, and only what `backfill` allows may start before it. The jobs of a
tenant that runs as many as it may are as if they were not there.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scheduler import backfill, placement
from scheduler.backfill import Holding, Running, Window
from scheduler.errors import NotFound
from scheduler.offers import loads
from scheduler.params import VideoParams
from scheduler.plans import usable
from scheduler.policy import Policy
from scheduler.records import Checkpoint, Lease, ServedModel, Worker
from scheduler.states import GpuState
from scheduler.store import claims
from scheduler.store.claims import Line
from scheduler.store.database import Database
from scheduler.store.rows import as_json
from scheduler.store.script import Statement, Trip
from scheduler.wakeup import Wakeup, job_topic

Scan = Callable[[int], Sequence[Statement]]  # of so many lines

_DEPTHS = (0, 1, 2, 4, 8, 16)  # how far past heads that others are claiming a claim looks, in turn


@dataclass(frozen=True, slots=True)
class Budget:
    """What a worker can give to jobs of one model and plan: now, and once all that runs on its GPU has ended.

    `load_bytes` is what the worker will hold beyond what it holds now, or, if negative, no longer.
    """

    free_bytes: int
    room_bytes: int
    load_bytes: int


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's lane that asks for a job: where, when, its budget for each model and plan, and what holds the rest.

    `free` is what the GPU has for a job while the weights stay as they are. `running` are the GPU's other lanes, and
    `own_seconds` is how long the jobs that are in this lane already will take.
    """

    worker_id: str
    gpu_id: str
    gpu_kind: str
    lane: int
    now: float
    plans: tuple[str, ...]
    free: Budget
    budgets: dict[tuple[str, str], Budget]
    held_models: frozenset[str]
    running: Sequence[Running]
    own_seconds: float

    def runs(self, job: Any) -> bool:
        """Tell whether the worker runs jobs of this model and plan."""
        return (job.model, job.plan) in self.budgets

    def budget(self, job: Any) -> Budget:
        """Return the budget for a job; for one that only other workers of the GPU run, what they would have to load."""
        return self.budgets.get((job.model, job.plan), self.free)


class Claims:
    """Claims of workers on jobs. Thread-safe; each call is one transaction."""

    def __init__(self, database: Database, policy: Policy, wakeup: Wakeup) -> None:
        self._database = database
        self._policy = policy
        self._wakeup = wakeup

    def claim(
        self,
        worker_id: str,
        gpu_id: str,
        free_bytes: int,
        *,
        lane: int = 0,
        shape: str | None = None,
        plan: str | None = None,
    ) -> Lease | None:
        """Lease the best job that may start now to a worker, or None.

        `free_bytes` is what the GPU would have free if this worker had no job running. A job in a `lane` in which there
        are others starts after them, in the memory that they had; lanes add up. With `shape` (a `Shape.key`) or `plan`
        the best job is leased only if it has these: so a job joins others without overtaking any.

        Drain and pause, ledger, reservation and lease are one transaction on the GPU's locked row, so two claims can
        never promise the same bytes; claims on different GPUs do not wait for each other, but where they would start
        jobs of tenants with a limit (SQLite: every write waits for the one before). Raises `NotFound`.
        """
        with self._database.trip() as trip:
            *_, leases, models, looked = trip.run(claims.LOOK, {"gpu_id": gpu_id, "worker_id": worker_id})
            look = looked.row
            if look is None:
                raise NotFound(f"no GPU {gpu_id}")
            if look.state != GpuState.ACTIVE or not look.ready or look.condemned or look.paused_at is not None:
                return None
            self._keep_line(trip, look)
            seat = self._seat(worker_id, gpu_id, lane, free_bytes, look, leases.rows, models.rows)
            head = self._choose(trip, seat, look.reserved_job_id) if seat.budgets else None
            if head is None or shape not in (None, head.shape) or plan not in (None, head.plan):
                return None
            lease = self._take(trip, seat, head)
        if lease is not None:
            self._wakeup.notify(job_topic(lease.job_id))
        return lease

    def _keep_line(self, trip: Trip, look: Any) -> None:
        """Put off what could start now but for its window, which is closed; then put into the line what is due."""
        windows, now = self._policy.off_peak, look.now
        if windows is not None and look.window_at is not None and look.window_at <= now and not windows.is_open(now):
            trip.run((claims.PUT_OFF,), {"now": now, "opens_at": windows.next_open(now)})
        if look.due_at is not None and look.due_at <= now:
            trip.run((claims.PROMOTE,), {"now": now})

    def _seat(
        self,
        worker_id: str,
        gpu_id: str,
        lane: int,
        measured_bytes: int,
        look: Any,
        leases: Sequence[Any],
        models: Sequence[Any],
    ) -> Seat:
        """What a lane of a worker can have by the GPU's ledger: what no process holds, and no other lane has."""
        lanes = backfill.lanes(
            Holding(
                (lease.worker_id, lease.lane),
                lease.reserved_bytes,
                (1.0 - lease.fraction) * lease.predicted_seconds,
                look.now - lease.progress_at,
                lease.step > 0,
            )
            for lease in leases
        )
        own = lanes.pop((worker_id, lane), None)
        beside = sum(one.reserved_bytes for (holder, _), one in lanes.items() if holder == worker_id)
        others = sum(one.reserved_bytes for one in lanes.values()) - beside
        unseen = sum(one.unseen_bytes for (holder, _), one in lanes.items() if holder != worker_id)
        total, headroom, resident = look.total_bytes, look.headroom_bytes, look.resident_bytes
        measured = measured_bytes - beside - unseen
        free = placement.ledger_free_bytes(measured, total, headroom, resident + others + beside)
        room = placement.ledger_free_bytes(measured_bytes + others - unseen, total, headroom, resident)
        worker = Worker(
            worker_id, gpu_id, look.pid, look.model, look.own_bytes,
            ready=True, can_load=tuple(as_json(look.can_load)), plan=look.own_plan,
        )  # fmt: skip
        served = {row.id: ServedModel(*row) for row in models}
        plans = usable(as_json(look.plans), allow_int8=True)
        # Memory that a leaner plan gives back is given once: not to each of the lanes.
        changes = {key: max(0, load) if beside else load for key, load in loads(worker, served, plans).items()}
        return Seat(
            worker_id=worker_id,
            gpu_id=gpu_id,
            gpu_kind=look.kind,
            lane=lane,
            now=look.now,
            plans=plans,
            free=Budget(free, room, 0),
            budgets={key: Budget(free - load, room - load, load) for key, load in changes.items()},
            held_models=frozenset(model.id for model in served.values() if model.held is not None),
            running=tuple(lanes.values()),
            own_seconds=own.remaining_seconds if own is not None else 0.0,
        )

    def _choose(self, trip: Trip, seat: Seat, reserved_job_id: str | None) -> Any:
        """The job to start now: the one the GPU is kept for, the best that fits, or one to run in the meantime."""
        kept = self._kept(trip, seat, reserved_job_id) if reserved_job_id is not None else None
        if kept is not None and seat.runs(kept) and self._need(kept) <= seat.budget(kept).free_bytes:
            return kept
        best = self._best(trip, seat)
        if kept is None:
            kept = self._reserve(trip, seat, best)
        if kept is None or best is None:
            return best
        window = self._window(seat, kept)
        if window is None:
            return best
        window = window.after(seat.own_seconds)
        if window.allows(best.est_seconds, self._takes(seat, best), self._policy.backfill_slack):
            return best
        return self._best_in_time(trip, seat, window)

    def _kept(self, trip: Trip, seat: Seat, job_id: str) -> Any:
        """The job that the GPU is reserved for; a reservation that can not be kept, or not now, is dropped."""
        values = self._parameters(seat, ()) | {"job_id": job_id}
        job = self._pass_gate(trip, lambda: trip.row(claims.ONE, values))
        could_start = job is not None and job.plan in seat.plans and job.model not in seat.held_models
        if could_start and self._need(job) <= seat.budget(job).room_bytes:
            return job
        trip.run((claims.UNRESERVE,), {"job_id": job_id})
        return None

    def _best(self, trip: Trip, seat: Seat) -> Any:
        """The highest ranked job that fits."""
        lines = [
            Line(model, plan, above=0, largest=self._classes(budget.free_bytes))
            for (model, plan), budget in seat.budgets.items()
        ]
        return self._head(trip, seat, claims.best, lines, {})

    def _best_in_time(self, trip: Trip, seat: Seat, window: Window) -> Any:
        """The highest ranked job that fits, and that ends before the reserved start or fits beside it."""
        spare = window.spare_bytes
        lines = [
            Line(
                model,
                plan,
                above=0,
                largest=self._classes(budget.free_bytes),
                spare=self._classes(spare - budget.load_bytes) if self._classes(spare) > 0 else 0,
            )
            for (model, plan), budget in seat.budgets.items()
        ]
        within = window.seconds / self._policy.backfill_slack
        limits = {"within_seconds": within, "deep": self._policy.backfill_depth}
        return self._head(trip, seat, claims.best_in_time, lines, limits)

    def _head(self, trip: Trip, seat: Seat, scan: Scan, lines: Sequence[Line], limits: dict[str, Any]) -> Any:
        values = self._parameters(seat, lines) | limits
        return self._pass_gate(trip, lambda: self._first_free(trip, scan, len(lines), values))

    def _first_free(self, trip: Trip, scan: Scan, lines: int, values: dict[str, Any]) -> Any:
        """The head that a scan finds, past those that other claims are taking."""
        for depth in _DEPTHS:
            head = trip.row(scan(lines), values | {"depth": depth})
            if head is not None or self._database.is_sqlite:
                return head
            if trip.row(claims.exists(lines), values | {"depth": depth}) is None:
                return None
        return None

    def _pass_gate(self, trip: Trip, find: Callable[[], Any]) -> Any:
        """The job that `find` finds; if its tenant has a limit, what it finds when no other claim can fill a place.

        SQLite: no other claim does anything meanwhile.
        """
        job = find()
        if job is None or not job.gate or self._database.is_sqlite:
            return job
        trip.run((claims.PASS_GATES_ALONE,), {})
        return find()

    def _parameters(self, seat: Seat, lines: Sequence[Line]) -> dict[str, Any]:
        windows = self._policy.off_peak
        window_open = windows is None or windows.is_open(seat.now)
        return claims.parameters(lines, self._policy.tenant_limits.max_running, window_open=window_open)

    def _reserve(self, trip: Trip, seat: Seat, best: Any) -> Any:
        """Reserve the GPU for the first job that needs more than is free now, if it outranks `best` and waited long."""
        first = self._blocked(trip, seat)
        if first is None or (best is not None and _order(best) < _order(first)):
            return None
        if seat.now - first.ready_at <= self._policy.reserve_after_seconds:
            return None
        window = self._window(seat, first)
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

    def _blocked(self, trip: Trip, seat: Seat) -> Any:
        lines = [
            Line(model, plan, above=max(0, self._classes(budget.free_bytes)), largest=self._classes(budget.room_bytes))
            for (model, plan), budget in seat.budgets.items()
        ]
        lines = [line for line in lines if line.above < line.largest]
        return trip.row(claims.blocked(len(lines)), self._parameters(seat, lines)) if lines else None

    def _window(self, seat: Seat, job: Any) -> Window | None:
        return backfill.window(seat.budget(job).free_bytes, self._need(job), seat.running)

    def _take(self, trip: Trip, seat: Seat, head: Any) -> Lease | None:
        fence = head.lease + 1
        reserved = self._takes(seat, head)
        event = {"lease": fence, "attempt": head.attempts + 1, "gpu": seat.gpu_id, "worker": seat.worker_id}
        values = {
            "job_id": head.job_id,
            "fence": fence,
            "gpu_id": seat.gpu_id,
            "gpu_kind": seat.gpu_kind,
            "worker_id": seat.worker_id,
            "lane": seat.lane,
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
            predicted_vram_bytes=job.predicted_vram_bytes,
            queued_at=job.queued_at,
            claimed_at=seat.now,
            lane=seat.lane,
            checkpoint=_checkpoint(job),
            traceparent=job.traceparent,
        )

    def _takes(self, seat: Seat, job: Any) -> int:
        """What a job reserves where it starts: its working set, and what its worker will hold more or less."""
        load = seat.budgets[job.model, job.plan].load_bytes
        return placement.reserved_bytes(self._need(job), load, self._policy.memory_class_bytes)

    def _need(self, job: Any) -> int:
        return int(job.memory_class) * self._policy.memory_class_bytes

    def _classes(self, size_bytes: int) -> int:
        """How many classes so much memory covers."""
        return size_bytes // self._policy.memory_class_bytes


def _checkpoint(row: Any) -> Checkpoint | None:
    if row.checkpoint_key is None:
        return None
    return Checkpoint(
        row.checkpoint_key, row.checkpoint_step, row.fingerprint, row.checkpoint_plan, row.checkpoint_bytes
    )


def _order(job: Any) -> tuple[float, str]:
    """What the queue is sorted by: the highest rank first, and the smaller id among equals."""
    return -job.rank, job.job_id
