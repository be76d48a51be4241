"""What the fleet offers a job: on each GPU that could run its model, under each plan, the footprint and the room."""

from collections.abc import Collection, Iterable, Mapping

from scheduler import catalog, placement
from scheduler.footprints import Predictor
from scheduler.params import VideoParams
from scheduler.placement import Offer
from scheduler.plans import usable
from scheduler.records import Gpu, ServedModel, Worker


def offers(served: ServedModel | None, gpus: Iterable[Gpu], params: VideoParams, predictor: Predictor) -> list[Offer]:
    """Return an offer of each GPU whose workers run the model, for each of its plans that the job allows.

    There is none for a model that is not known here.
    """
    if served is None or not catalog.knows(served.architecture):
        return []
    made = []
    for gpu in gpus:
        if gpu.info.model == served.id or any(placement.serves(worker, served.id) for worker in gpu.workers):
            made += _offers_of(gpu, served, params, predictor)
    return made


def _offers_of(gpu: Gpu, served: ServedModel, params: VideoParams, predictor: Predictor) -> list[Offer]:
    plans = usable(gpu.info.plans, allow_int8=params.allow_int8)
    needs = [predictor.predict(served, kind=gpu.info.kind, plan=plan, params=params) for plan in plans]
    sizes = _sizes(served, gpu.info.plans)
    return [
        Offer(gpu, need, placement.capacity_bytes(gpu, served.id, need.model_bytes, sizes), sizes) for need in needs
    ]


def loads(worker: Worker, served: Mapping[str, ServedModel], plans: Collection[str]) -> dict[tuple[str, str], int]:
    """Return each model and plan that a worker could run, with the bytes that it will hold more then than it does now.

    The model that it holds comes first. One whose jobs are held back is left out, and one that is not known here.
    """
    found = {}
    for name in (worker.model, *worker.can_load):
        model = served.get(name)
        if model is None or model.held is not None or not catalog.knows(model.architecture):
            continue
        sizes = _sizes(model, plans)
        for plan, size in sizes.items():
            if plan is not None:
                found[name, plan] = placement.load_bytes(worker, name, size, sizes)
    return found


def _sizes(model: ServedModel, plans: Collection[str]) -> dict[str | None, int]:
    """What a process holds with a model between jobs, under each of these plans, int8 included; by None unloaded."""
    architecture = catalog.architecture(model.architecture)
    sizes: dict[str | None, int] = {None: architecture.demand.process_bytes}
    for plan in usable(plans, allow_int8=True):
        sizes[plan] = architecture.resident_bytes(plan, model.weights_bytes)
    return sizes
