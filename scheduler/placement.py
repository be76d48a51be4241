"""Which job fits where, and under which plan: the arithmetic of the memory ledger. Pure, no I/O.

The ledger of one GPU is `free = min(measured free, total - headroom - committed)`, where `committed` is what resident
processes and open leases were promised. A job's demand on a worker whose weights are loaded is its working set,
rounded up to a memory class; resident weights therefore count once a process, never once a job. A worker that has to
load for a job, or to put weights away, needs so much more or less beside it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler.errors import Unschedulable
from scheduler.footprint import Footprint
from scheduler.plans import PLANS
from scheduler.records import Gpu, Worker
from scheduler.states import GpuState

_GIB = 2**30
_ORDER = {name: number for number, name in enumerate(PLANS)}


@dataclass(frozen=True, slots=True)
class Offer:
    """A GPU that could run a job under a plan, the footprint there, and how much it could ever give beside the weights.

    `model_sizes` is what a process holds with the model between jobs, by the plan of that GPU; by None without weights.
    """

    gpu: Gpu
    footprint: Footprint
    capacity_bytes: int
    model_sizes: Mapping[str | None, int]

    @property
    def in_service(self) -> bool:
        """Whether the GPU is active and its supervisor is heard."""
        return self.gpu.online and self.gpu.state is GpuState.ACTIVE


@dataclass(frozen=True, slots=True)
class Choice:
    """The offer a job goes by, and why: one sentence for people."""

    offer: Offer
    reason: str


def memory_class(working_bytes: int, class_bytes: int) -> int:
    """Return the class of a working set: how many blocks of `class_bytes` cover it, at least one."""
    return max(1, math.ceil(working_bytes / class_bytes))


def ledger_free_bytes(measured_free_bytes: int, total_bytes: int, headroom_bytes: int, committed_bytes: int) -> int:
    """Return what may still be promised: the lesser of what was measured and what the books say; may be negative."""
    return min(measured_free_bytes, total_bytes - headroom_bytes - committed_bytes)


def load_bytes(worker: Worker, model: str, model_bytes: int, model_sizes: Mapping[str | None, int]) -> int:
    """Return what more a worker holds once it holds `model_bytes` of a model; negative where it gives memory back.

    `model_sizes` is what is predicted for each plan, and for a process without weights. What the worker turned out to
    hold beyond that, or less, it does with every plan: so one that has the plan already holds no more and no less,
    whatever was measured. One that has no plan has no weights, unless it is loading some, or holds as much as all.
    """
    held = worker.resident_bytes
    if worker.model != model:
        return model_bytes - held
    if worker.plan is not None and worker.plan in model_sizes:
        return model_bytes - model_sizes[worker.plan]
    largest = max(model_sizes.values())
    unloaded = worker.plan is None and worker.ready and held < largest
    return model_bytes - min(held, model_sizes[None] if unloaded else largest)


def reserved_bytes(need_bytes: int, loaded_bytes: int, class_bytes: int) -> int:
    """Return what a job reserves beside the registered size of its worker: never less than one class."""
    return max(class_bytes, need_bytes + loaded_bytes)


def capacity_bytes(gpu: Gpu, model: str, model_bytes: int, model_sizes: Mapping[str | None, int]) -> int:
    """Return the largest working set that `gpu` can give one job when nothing else runs there.

    All processes stay resident meanwhile. One of them runs the job, and so holds `model_bytes` of the model. Where
    there is none yet, it will come beside the others.
    """
    added = [load_bytes(worker, model, model_bytes, model_sizes) for worker in gpu.workers if serves(worker, model)]
    held = sum(worker.resident_bytes for worker in gpu.workers)
    return gpu.info.total_bytes - gpu.info.headroom_bytes - held - min(added, default=model_bytes)


def serves(worker: Worker, model: str) -> bool:
    """Tell whether a worker runs jobs of `model`, be it after loading it."""
    return worker.model == model or model in worker.can_load


def choose(offers: Iterable[Offer], class_bytes: int) -> Choice:
    """Return the fastest offer that fits, of a GPU in service if there is one; `offers` must not be empty.

    Raises `Unschedulable`, naming the sizes, when none fits.
    """
    candidates = list(offers)
    fitting = [offer for offer in candidates if fits(offer, class_bytes)]
    if not fitting:
        nearest = max(candidates, key=lambda offer: _spare_bytes(offer, class_bytes))
        raise Unschedulable(too_large(nearest, class_bytes), nearest.footprint.vram_bytes)
    best = _fastest([offer for offer in fitting if offer.in_service] or fitting)
    return Choice(best, _reason(best.footprint.plan, candidates, fitting))


def _fastest(offers: Sequence[Offer]) -> Offer:
    """The offer with the least seconds; of equals the one whose plan saves the least."""
    return min(offers, key=lambda offer: (offer.footprint.seconds, _ORDER.get(offer.footprint.plan, len(_ORDER))))


def _reason(plan: str, candidates: Sequence[Offer], fitting: Sequence[Offer]) -> str:
    fastest = _fastest(candidates).footprint.plan
    if fastest == plan:
        holding = {offer.gpu.info.id for offer in fitting if offer.footprint.plan == plan}
        total = len({offer.gpu.info.id for offer in candidates})
        return f"{plan} is the fastest plan, and fits {len(holding)} of {total} GPU{'s' if total != 1 else ''}"
    if any(offer.footprint.plan == fastest for offer in fitting):
        return f"{fastest} fits no GPU that is in service; {plan} does"
    tried = [offer for offer in candidates if offer.footprint.plan == fastest]
    need = min(offer.footprint.vram_bytes for offer in tried)
    room = max(offer.capacity_bytes + offer.footprint.model_bytes for offer in tried)
    return f"{fastest} needs {gib(need)} and no GPU has more than {gib(max(0, room))}; {plan} fits"


def fits(offer: Offer, class_bytes: int) -> bool:
    """Tell whether the job could ever run there; the demand is rounded as the ledger will round it."""
    return _spare_bytes(offer, class_bytes) >= 0


def _spare_bytes(offer: Offer, class_bytes: int) -> int:
    """What would be left there beside the job; what is lacking, if negative."""
    return offer.capacity_bytes - memory_class(offer.footprint.working_bytes, class_bytes) * class_bytes


def too_large(largest: Offer, class_bytes: int) -> str:
    """Say, with sizes, that not even the `largest` offer fits: the one that lacks the least."""
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
