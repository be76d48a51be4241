"""What the fleet offers a job: on each GPU that could run its model, the footprint there and the room there is."""

from collections.abc import Iterable
from functools import lru_cache

from scheduler import catalog, placement
from scheduler.footprint import Footprint
from scheduler.params import VideoParams
from scheduler.placement import Offer
from scheduler.records import Gpu, ServedModel


def offers(served: ServedModel | None, gpus: Iterable[Gpu], params: VideoParams) -> list[Offer]:
    """Return an offer of each GPU whose workers run the model; none for a model not known here."""
    if served is None or not catalog.knows(served.architecture):
        return []
    made = []
    for gpu in gpus:
        if gpu.info.model == served.id or any(placement.serves(worker, served.id) for worker in gpu.workers):
            need = _footprint(served, params, gpu.info.plan, gpu.info.kind)
            made.append(Offer(gpu, need, placement.capacity_bytes(gpu, served.id, need.model_bytes)))
    return made


@lru_cache(maxsize=1024)
def _footprint(served: ServedModel, params: VideoParams, plan: str, kind: str) -> Footprint:
    architecture = catalog.architecture(served.architecture)
    return architecture.footprint(params, plan=plan, kind=kind, weights_bytes=served.weights_bytes)
