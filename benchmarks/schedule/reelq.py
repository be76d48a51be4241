"""The scheduler itself, on SQLite, with a clock that moves only when told: its own submits, claims and endings."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import text

from benchmarks.queue.reelq import MODEL, succeed
from benchmarks.schedule.arrivals import Arrival
from benchmarks.schedule.events import Run, Start
from benchmarks.schedule.fleet import FLEET, PLAN, RESIDENT_BYTES, need
from scheduler import policy as queue_policy
from scheduler.blobs import open_blobs
from scheduler.limits import TenantLimits
from scheduler.policy import Order
from scheduler.records import GpuSample, Lease, NewJob, Progress, Worker
from scheduler.service import Scheduler
from scheduler.states import Stage
from scheduler.store.database import Database, sqlite_url
from scheduler.store.migrate import migrate
from scheduler.wakeup import Wakeup

_EPOCH = 1_800_000_000.0
_FOR_EVER = 1e9  # nobody beats in virtual time, so nobody may be given up for silence


class VirtualDatabase(Database):
    """A database on SQLite whose clock stands still until `set` moves it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        with self.write() as conn:
            conn.execute(text("CREATE TABLE virtual_clock (seconds REAL NOT NULL)"))
            conn.execute(text("INSERT INTO virtual_clock VALUES (:seconds)"), {"seconds": _EPOCH})

    @property
    def clock(self) -> str:
        """The SQL expression for the virtual time."""
        return "(SELECT seconds FROM virtual_clock)"

    def set(self, seconds: float) -> None:
        """Move the clock to so many seconds after its beginning."""
        with self.write() as conn:
            conn.execute(text("UPDATE virtual_clock SET seconds = :seconds"), {"seconds": _EPOCH + seconds})


class Reelq:
    """The scheduler as a policy: what a front end and the GPUs' workers call."""

    def __init__(self, scheduler: Scheduler, database: VirtualDatabase, *, slots: int, share: float | None) -> None:
        self.slots = slots
        self._scheduler = scheduler
        self._database = database
        self._share = share
        self._tenants: set[str] = set()
        self._waiting: dict[str, Arrival] = {}
        self._leases: dict[int, Lease] = {}
        self._now = 0.0

    def submit(self, job: Arrival, at: float) -> None:
        """Do what `Policy.submit` says."""
        self._move(at)
        if self._share is not None and job.tenant not in self._tenants:
            self._tenants.add(job.tenant)
            self._scheduler.tenants.set(job.tenant, TenantLimits(share=self._share), actor="benchmark")
        job_id = f"job_{job.number:08}"
        new = NewJob(job_id, MODEL.id, "a kite", job.params, image_key=f"jobs/{job_id}/input.png", tenant=job.tenant)
        self._scheduler.queue.submit(new)
        self._waiting[job_id] = job

    def start(self, gpu: int, slot: int, at: float, beside: Sequence[Run]) -> Start | None:
        """Do what `Policy.start` says."""
        if not self._waiting:
            return None
        self._move(at)
        for run in beside:
            self._report(run)
        info = FLEET[gpu]
        lease = self._claim(gpu, slot)
        if lease is None and self._scheduler.queue.feed_idle_workers():  # which the reaper does every few seconds
            lease = self._claim(gpu, slot)
        if lease is None:
            return None
        job = self._waiting.pop(lease.job_id)
        self._leases[job.number] = lease
        return Start(job, need(job.params, info, lease.plan).seconds)

    def finish(self, run: Run, at: float) -> None:
        """Do what `Policy.finish` says."""
        self._move(at)
        succeed(self._scheduler, self._leases.pop(run.start.job.number))

    def _claim(self, gpu: int, slot: int) -> Lease | None:
        return self._scheduler.queue.claim(_worker(gpu, slot), FLEET[gpu].id, FLEET[gpu].total_bytes)

    def _move(self, at: float) -> None:
        if at != self._now:
            self._database.set(at)
            self._now = at

    def _report(self, run: Run) -> None:
        steps = run.start.job.params.num_inference_steps
        progress = Progress(Stage.DENOISING, int(run.fraction * steps), steps, run.fraction)
        self._scheduler.leases.report(self._leases[run.start.job.number], progress)


@contextmanager
def opened(folder: Path, *, order: Order, slots: int = 1, share: float | None = None) -> Iterator[Reelq]:
    """Open the scheduler with its default policy but for `order`, each GPU with `slots` workers.

    With a `share`, each tenant has that one.
    """
    folder.mkdir()
    database = VirtualDatabase(sqlite_url(folder / "reelq.db"))
    migrate(database)
    policy = replace(
        queue_policy.Policy(order=order),
        lease_seconds=_FOR_EVER,
        worker_ttl_seconds=_FOR_EVER,
        gpu_memory_seconds=_FOR_EVER,
        max_queued=1_000_000,
    )
    blobs = open_blobs((folder / "blobs").as_uri())
    with Scheduler.assemble(database, blobs, Wakeup(folder, database.url), policy) as scheduler:
        _register(scheduler, slots)
        yield Reelq(scheduler, database, slots=slots, share=share)


def _register(scheduler: Scheduler, slots: int) -> None:
    scheduler.fleet.register(MODEL, FLEET)
    for gpu, info in enumerate(FLEET):
        scheduler.fleet.sample(info.id, GpuSample(used_bytes=0, free_bytes=info.total_bytes))
        for slot in range(slots):
            worker = Worker(_worker(gpu, slot), info.id, 1, MODEL.id, RESIDENT_BYTES, ready=True, plan=PLAN)
            scheduler.fleet.register_worker(worker)


def _worker(gpu: int, slot: int) -> str:
    return f"worker-{gpu}-{slot}"
