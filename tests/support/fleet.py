"""A small fleet and its jobs, for tests of the scheduler and of everything above it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import select

from scheduler import ids, placement
from scheduler.blobs import open_blobs
from scheduler.params import VideoParams
from scheduler.policy import Policy
from scheduler.records import (
    GpuInfo,
    GpuSample,
    Job,
    JobError,
    Lease,
    Measured,
    NewJob,
    Progress,
    Result,
    ServedModel,
    Worker,
)
from scheduler.service import Scheduler
from scheduler.states import Stage
from scheduler.store.database import Database
from scheduler.store.schema import metadata
from scheduler.wakeup import Wakeup

GIB = 2**30
MODEL = ServedModel("ali-vilab/i2vgen-xl", "i2vgen-xl", weights_bytes=4_970_000_000, fingerprint="f" * 64)
PARAMS = VideoParams(512, 512, 16, 50, 9.0, 16, seed=7)
ERROR = JobError("pipeline_error", "it broke")
MEASURED = Measured(vram_peak_bytes=7 * GIB, run_seconds=12.5)
RESULT = Result("jobs/x/1/video.mp4", "jobs/x/1/thumbnail.webp", 1000, "0" * 64, 512, 512, 16, 16, 1.0)
HALF_WAY = Progress(Stage.DENOISING, step=25, steps=50, fraction=0.5)


@contextmanager
def open_scheduler(url: str, data_dir: Path, policy: Policy | None = None) -> Iterator[Scheduler]:
    """Open the scheduler's services on a migrated database, under a policy that settings do not reach."""
    database, blobs = Database(url), open_blobs((data_dir / "blobs").as_uri())
    with Scheduler.assemble(database, blobs, Wakeup(data_dir, database.url), policy or Policy()) as opened:
        yield opened


def gpu_info(gpu_id: str = "GPU-0", **changes: Any) -> GpuInfo:
    """Return a 24 GiB RTX 3090 that serves `MODEL`, with `changes`."""
    facts: dict[str, Any] = {
        "host": "host-0",
        "model": MODEL.id,
        "kind": "NVIDIA GeForce RTX 3090",
        "name": "NVIDIA GeForce RTX 3090",
        "plans": ("fp16",),
        "total_bytes": 24 * GIB,
        "headroom_bytes": GIB,
    }
    return GpuInfo(gpu_id, **(facts | changes))


def new_job(**changes: Any) -> NewJob:
    """Return a new job of `MODEL`; `changes` to its parameters and to the job itself may be mixed."""
    params = {key: changes.pop(key) for key in list(changes) if key in VideoParams.__dataclass_fields__}
    job_id = changes.pop("id", None) or ids.new_id("job")
    job = NewJob(job_id, MODEL.id, "a red kite over the sea", PARAMS, image_key=f"jobs/{job_id}/input.png")
    return replace(job, **{"params": replace(PARAMS, **params)} | changes)


def demand_bytes(job: Job) -> int:
    """Return what the ledger reserves for a job: its working set, rounded up to a memory class."""
    block = Policy().memory_class_bytes
    return placement.memory_class(job.footprint.working_bytes, block) * block


@dataclass
class RegisteredGpu:
    """A GPU of the fleet with its workers; claims as they would."""

    scheduler: Scheduler
    info: GpuInfo
    workers: list[str] = field(default_factory=list)
    _lanes: Iterator[int] = field(default_factory=count)

    def add_worker(self, resident_bytes: int = 6 * GIB, *, ready: bool = True, plan: str | None = None) -> str:
        """Register one more worker process and return its id."""
        worker = Worker(ids.new_id("worker"), self.info.id, 4711, self.info.model, resident_bytes, ready, plan=plan)
        self.scheduler.fleet.register_worker(worker)
        self.workers.append(worker.id)
        return worker.id

    @property
    def free_bytes(self) -> int:
        """What is free by the books: total - headroom - resident processes - open leases."""
        gpu = self.scheduler.fleet.gpu(self.info.id)
        return gpu.info.total_bytes - gpu.info.headroom_bytes - gpu.reserved_bytes

    def claim(
        self, free_bytes: int | None = None, worker: int = 0, *, lane: int | None = None, **only: str | None
    ) -> Lease | None:
        """Claim for one of its workers, and by default in a lane of the job's own; `only` are a shape and a plan.

        The measured free memory is by default all that the GPU has.
        """
        measured = self.info.total_bytes if free_bytes is None else free_bytes
        lane = next(self._lanes) if lane is None else lane
        return self.scheduler.queue.claim(self.workers[worker], self.info.id, measured, lane=lane, **only)

    def must_claim(self, worker: int = 0, *, lane: int | None = None) -> Lease:
        """Claim a job that has to be there."""
        lease = self.claim(worker=worker, lane=lane)
        assert lease is not None
        return lease


def register_gpu(
    scheduler: Scheduler,
    gpu_id: str = "GPU-0",
    *,
    workers: int = 1,
    resident_bytes: int = 6 * GIB,
    plan: str | None = None,
    **changes: Any,
) -> RegisteredGpu:
    """Register a GPU with a first sample and `workers` ready workers, which hold the weights of `plan`."""
    gpu = RegisteredGpu(scheduler, gpu_info(gpu_id, **changes))
    scheduler.fleet.register(replace(MODEL, id=gpu.info.model), [gpu.info])
    scheduler.fleet.sample(gpu_id, GpuSample(used_bytes=0, free_bytes=gpu.info.total_bytes))
    for _ in range(workers):
        gpu.add_worker(resident_bytes, plan=plan)
    return gpu


def snapshot(scheduler: Scheduler) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, to show that nothing has changed."""
    with scheduler.database.read() as conn:
        return {
            table.name: [tuple(row) for row in conn.execute(select(table).order_by(*table.primary_key.columns))]
            for table in metadata.sorted_tables
        }
