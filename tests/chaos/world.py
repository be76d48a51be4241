"""The small world of a campaign: two GPUs with four workers each, jobs of two sizes, and leases of one second."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from scheduler import catalog, placement
from scheduler.errors import StoreUnreachable
from scheduler.params import VideoParams
from scheduler.policy import MIB, Policy
from scheduler.records import GpuInfo, GpuSample, NewJob, Worker
from scheduler.service import Scheduler
from tests.support import fleet
from tests.support.fleet import PARAMS, gpu_info, new_job

ROOT = Path(__file__).parents[2]  # what the processes of a campaign import from

# Everything that takes seconds by default takes a tenth here; attempts are plenty, since most of them are killed.
POLICY = Policy(
    lease_seconds=1.0,
    worker_ttl_seconds=2.0,
    max_attempts=1000,
    retry_base_seconds=0.02,
    retry_cap_seconds=0.1,
    max_queued=10_000_000,
    unschedulable_grace_seconds=3600.0,
    reserve_after_seconds=5.0,
)
REAPER_SECONDS = 0.2  # between two rounds
RETRY_SECONDS = 0.1  # between two calls while the store is away
GPU_IDS = ("GPU-0", "GPU-1")
WORKERS_PER_GPU = 4
MODEL = replace(fleet.MODEL, weights_bytes=MIB)
# Of a worker; so little that one job too many cannot hide in what absent workers leave.
RESIDENT_BYTES = catalog.architecture(MODEL.architecture).resident_bytes("fp16", MODEL.weights_bytes)
SMALL = PARAMS
LARGE = replace(PARAMS, width=768, height=768, num_frames=24)

_T = TypeVar("_T")


def demand_bytes(params: VideoParams) -> int:
    """Return what the ledger reserves for a job on a loaded worker."""
    info = gpu_info()
    architecture = catalog.architecture(MODEL.architecture)
    need = architecture.footprint(params, plan=info.plans[0], kind=info.kind, weights_bytes=MODEL.weights_bytes)
    return placement.memory_class(need.working_bytes, POLICY.memory_class_bytes) * POLICY.memory_class_bytes


def gpu(gpu_id: str) -> GpuInfo:
    """Return a GPU whose four workers can run one large job and three small ones at once, and no more."""
    info = gpu_info(gpu_id)
    room = WORKERS_PER_GPU * RESIDENT_BYTES + demand_bytes(LARGE) + 3 * demand_bytes(SMALL)
    return replace(info, total_bytes=info.headroom_bytes + room)


def most_leased_bytes(info: GpuInfo) -> int:
    """Return what the open leases of a GPU may reserve together: its memory beside the one worker that claims."""
    return info.total_bytes - info.headroom_bytes - RESIDENT_BYTES


def worker(worker_id: str, gpu_id: str, pid: int) -> Worker:
    """Return a worker that has the model loaded."""
    return Worker(worker_id, gpu_id, pid, MODEL.id, RESIDENT_BYTES, ready=True)


def job(number: int, seed: int) -> NewJob:
    """Return the job with this number, under a new id; its key makes it the same job however often it is submitted."""
    dice = Random(f"job {number} of {seed}")  # noqa: S311  a campaign can be repeated
    params = dice.choices([SMALL, LARGE], [0.75, 0.25])[0]
    facts: dict[str, Any] = {"idempotency_key": f"{seed}-{number}", "payload_sha256": f"{number:064x}"}
    return new_job(params=params, priority=dice.uniform(0.5, 2.0), **facts)


def look(scheduler: Scheduler) -> None:
    """Record a sample of each GPU, as its supervisor would."""
    for gpu_id in GPU_IDS:
        scheduler.fleet.sample(gpu_id, GpuSample(used_bytes=0, free_bytes=gpu(gpu_id).total_bytes))


def insist(call: Callable[[], _T], unreachable: Callable[[], None] = lambda: None) -> _T:
    """Call the store until it answers; `unreachable` is told of each time it did not."""
    while True:
        try:
            return call()
        except StoreUnreachable:
            unreachable()
        time.sleep(RETRY_SECONDS)
