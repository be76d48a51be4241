"""Which job fits where: the arithmetic of the memory ledger. Pure, no I/O.

The ledger of one GPU is `free = min(measured free, total - headroom - committed)`, where `committed` is what resident
processes and open leases were promised. A job's demand on a worker whose weights are loaded is its working set,
rounded up to a memory class; resident weights therefore count once a process, never once a job.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scheduler.errors import Unschedulable
from scheduler.footprint import Footprint
from scheduler.records import Gpu, Worker
from scheduler.states import GpuState

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Offer:
    """A GPU that could hold a job, the footprint there, and how much it could ever give."""

    gpu: Gpu
    footprint: Footprint
    capacity_bytes: int


def memory_class(working_bytes: int, class_bytes: int) -> int:
    """Return the class of a working set: how many blocks of `class_bytes` cover it, at least one."""
    return max(1, math.ceil(working_bytes / class_bytes))


def ledger_free_bytes(measured_free_bytes: int, total_bytes: int, headroom_bytes: int, committed_bytes: int) -> int:
    """Return what may still be promised: the lesser of what was measured and what the books say."""
    return max(0, min(measured_free_bytes, total_bytes - headroom_bytes - committed_bytes))


def capacity_bytes(gpu: Gpu, model: str, model_bytes: int) -> int:
    """Return the largest working set that `gpu` can give one job when nothing else runs there.

    All processes stay resident meanwhile. One of them runs the job: it holds the model, whole at the latest when it is
    ready, or loads it in place of its own. Where there is none yet, it will come beside the others.
    """
    held = sum(worker.resident_bytes for worker in gpu.workers)
    resident = [
        held - worker.resident_bytes + max(model_bytes, worker.resident_bytes if worker.model == model else 0)
        for worker in gpu.workers
        if serves(worker, model)
    ]
    return gpu.info.total_bytes - gpu.info.headroom_bytes - min(resident, default=held + model_bytes)


def serves(worker: Worker, model: str) -> bool:
    """Tell whether a worker runs jobs of `model`, be it after loading it."""
    return worker.model == model or model in worker.can_load


def choose(offers: Iterable[Offer], class_bytes: int) -> Offer:
    """Return the fastest offer that fits, of a GPU in service if there is one; `offers` must not be empty.

    Raises `Unschedulable`, naming the sizes, when none fits.
    """
    candidates = list(offers)
    fitting = [offer for offer in candidates if fits(offer, class_bytes)]
    in_service = [offer for offer in fitting if offer.gpu.online and offer.gpu.state is GpuState.ACTIVE]
    if fitting:
        return min(in_service or fitting, key=lambda offer: offer.footprint.seconds)
    largest = max(candidates, key=lambda offer: offer.capacity_bytes)
    raise Unschedulable(too_large(largest, class_bytes))


def fits(offer: Offer, class_bytes: int) -> bool:
    """Tell whether the job could ever run there; the demand is rounded as the ledger will round it."""
    return memory_class(offer.footprint.working_bytes, class_bytes) * class_bytes <= offer.capacity_bytes


def too_large(largest: Offer, class_bytes: int) -> str:
    """Say, with sizes, that not even the `largest` offer fits."""
    reserved = memory_class(largest.footprint.working_bytes, class_bytes) * class_bytes
    total = largest.gpu.info.total_bytes - largest.gpu.info.headroom_bytes
    need = largest.footprint
    return (
        f"the job needs {gib(need.vram_bytes)} of memory ({gib(need.model_bytes)} resident + "
        f"{gib(need.working_bytes)} working, reserved as {gib(reserved)}, plan {need.plan}); "
        f"the largest GPU, {largest.gpu.info.name}, offers {gib(total)}, "
        f"{gib(max(0, largest.capacity_bytes))} of it beside the resident model"
    )


def gib(size_bytes: float) -> str:
    """Format bytes as GiB for a message."""
    return f"{size_bytes / _GIB:.2f} GiB"
