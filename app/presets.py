"""What each preset of a model would take here, and what it has taken."""

from dataclasses import replace

from app import images, views
from app import schemas as api
from app.context import Context
from app.estimates import cost
from scheduler import catalog, placement
from scheduler.errors import NoModel, Unschedulable
from scheduler.params import PRESETS, VideoParams
from scheduler.placement import Offer
from scheduler.presets import DESCRIPTIONS, default_steps
from scheduler.records import ServedModel
from scheduler.shape import Shape


def model(context: Context, served: ServedModel) -> api.Model:
    """Return a served model as the API shows it; asks the store."""
    settings = context.settings
    image = api.ImageLimits(
        formats=list(images.FORMATS),
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        min_side=images.MIN_SIDE_PIXELS,
        max_side=images.MAX_SIDE_PIXELS,
    )
    return views.model(served, [_preset(context, served, name) for name in PRESETS], image)


def _preset(context: Context, served: ServedModel, name: str) -> api.Preset:
    architecture = catalog.architecture(served.architecture)
    params = replace(architecture.defaults, preset=name, num_inference_steps=default_steps(name, architecture))
    best = _best(context, served, params)
    return api.Preset(
        name=name,
        description=DESCRIPTIONS[name],
        defaults={"num_inference_steps": params.num_inference_steps},
        estimate=_estimate(context, best) if best else None,
        measured=_measured(context, served, params, best) if best else None,
    )


def _best(context: Context, served: ServedModel, params: VideoParams) -> Offer | None:
    """What a submit would choose."""
    try:
        offers = context.scheduler.queue.quote(served.id, params)
        return placement.choose(offers, context.settings.memory_class_bytes).offer
    except (NoModel, Unschedulable):
        return None


def _estimate(context: Context, best: Offer) -> api.PresetEstimate:
    need = best.footprint
    return api.PresetEstimate(
        gpu_kind=best.gpu.info.kind,
        plan=need.plan,
        seconds=need.seconds,
        vram_bytes=need.vram_bytes,
        cost=cost(best, context.settings.prices),
    )


def _measured(context: Context, served: ServedModel, params: VideoParams, best: Offer) -> api.PresetMeasure | None:
    found = context.scheduler.measures.of(
        served.id, plan=best.footprint.plan, gpu_kind=best.gpu.info.kind, params=params
    )
    if found is None:
        return None
    return api.PresetMeasure(
        jobs=found.jobs,
        shape=Shape.of(params).key,
        steps=params.num_inference_steps,
        seconds_p50=found.seconds_p50,
        vram_peak_bytes=found.vram_peak_bytes,
    )
