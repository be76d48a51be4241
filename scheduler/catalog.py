"""The model architectures the service knows: limits, defaults, and what they cost. No weights, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from scheduler import work
from scheduler.errors import InvalidParameter
from scheduler.footprint import Cost, DataSheet, Demand, Footprint, Rates, Weights, Width
from scheduler.params import Limits, Range, VideoParams
from scheduler.records import ServedModel
from scheduler.shape import Shape

MIB = 2**20

TINY = "tiny"  # what `--model` and a job's `model` may say for short
TINY_MODEL_ID = "tiny-random-noise"  # what a job of it says: random weights, its output is noise
TINY_REVISION = "1"  # of the recipe in workers.pipelines.tiny; the weights follow from it
TINY_WEIGHTS_BYTES = 625_854

I2VGEN_XL = "i2vgen-xl"
I2VGEN_XL_TINY = "i2vgen-xl-tiny"


@dataclass(frozen=True, slots=True)
class Architecture:
    """What is true of every model of one architecture, whatever its weights. It runs under every plan of `PLANS`."""

    name: str
    limits: Limits
    defaults: VideoParams
    demand: Demand
    weights: Weights
    cost: Cost
    random_weights: bool = False

    def data_sheet(self, kind: str, weights_bytes: int) -> DataSheet:
        """Return what can be said without measuring of a model with such weights on GPUs of `kind`."""
        return DataSheet(self.demand, self.weights, self.cost, rates(kind), weights_bytes)

    def footprint(self, params: VideoParams, *, plan: str, kind: str, weights_bytes: int) -> Footprint:
        """Predict what `params` need under `plan` on GPUs of `kind`, by the data sheet."""
        sheet = self.data_sheet(kind, weights_bytes)
        return sheet.footprint(plan, Shape.of(params), params.num_inference_steps)

    def resident_bytes(self, plan: str, weights_bytes: int) -> int:
        """Predict what a process that is loaded for `plan` holds between jobs."""
        return self.data_sheet(_ANY_KIND, weights_bytes).resident_bytes(plan)


_ANY_KIND = "cpu"  # memory is the same on all

# What a network may reach of the data sheet: half of the dense tensor rate in FP16, six tenths of the vector rate in
# FP32. Only the order of magnitude matters until runs of this installation have been measured.
_RATES = {
    "H200": Rates(half=495e12, full=40e12),
    "H100": Rates(half=495e12, full=40e12),
    "A100": Rates(half=156e12, full=12e12),
    "L40S": Rates(half=181e12, full=55e12),
    "4090": Rates(half=82e12, full=50e12),
    "3090": Rates(half=36e12, full=21e12),
    "A10": Rates(half=62e12, full=19e12),
    "L4": Rates(half=60e12, full=18e12),
    "T4": Rates(half=32e12, full=5e12),
}
_UNKNOWN_GPU = Rates(half=50e12, full=10e12)
_CPU = Rates(half=10e9, full=20e9)  # one core of a 2020s server, which computes halves as floats


def rates(kind: str) -> Rates:
    """Return the rates to predict seconds with on a GPU `kind` (its NVML name, or "cpu")."""
    if kind == "cpu":
        return _CPU
    return next((rate for name, rate in _RATES.items() if name in kind), _UNKNOWN_GPU)


# The published sizes: UNet 1.420 G parameters, 0.588 G of them in linear layers; image encoder 0.632 G, text encoder
# 0.340 G, VAE 0.084 G. The largest module that is streamed is 3.5 % of the UNet, and 1.2 % lies outside its blocks.
_I2VGEN_XL_WEIGHTS = Weights(unet=0.573, vae=0.034, largest_encoder=0.255, streamed=0.573 * 0.082, quantised=0.237)

# Counted on the meta device, as the tensors that live at once. In the UNet the feed-forward of `transformer_in` is the
# widest: GEGLU gives 4,096 values a token, whose halves become 2 x 2,048 more, and 2,415 wait beside them. When its
# modules run in pieces it is 2,740 and the pieces, or 3,000 with the copies that cuDNN makes for a convolution over
# time of one sample. The `fast` preset keeps 12,564 values of attention outputs a token. In the VAE it is a convolution
# at full size: input, residual and output, with 256 channels in the decoder and 128 in the encoder, and cuDNN's copies
# of two of them; in bands 640 and 387 values a pixel, and the bands.
_I2VGEN_XL_DEMAND = Demand(
    process_bytes=640 * MIB,
    float32_process_bytes=1024 * MIB,
    denoise=Width(whole=10_610, chunked=3_000, pieces=240_000_000),
    kept_values=12_570,
    decode=Width(whole=5 * 256, chunked=700, pieces=32_000_000),
    encode=Width(whole=5 * 128 + 3, chunked=420, pieces=24_000_000),
    half_bytes=2,
    fixed_bytes=256 * MIB,
    margin=0.15,
)
_I2VGEN_XL_COST = Cost(
    unet=work.I2VGEN_XL_UNET,
    vae=work.I2VGEN_XL_VAE,
    unet_efficiency=1.0,
    vae_efficiency=1.0,
    fast_share=0.89,  # 0.90 at 256x256x4, 0.886 at 512x512x16, 0.83 at 1024x1024x32: counted over 50 steps
    step_seconds=0.03,
    overhead_seconds=1.0,
)

# Too small to count: fitted to measured peaks (VmHWM above the loaded process, one thread, float32) from 64x64x2 to
# 512x512x16, never below them, and twice what lives at once: the allocator of a CPU keeps more. Halves are computed as
# floats there.
_TINY_DEMAND = Demand(
    process_bytes=640 * MIB,
    float32_process_bytes=640 * MIB,
    denoise=Width(whole=416, chunked=416, pieces=0),  # it is smaller than a piece
    kept_values=204,
    decode=Width(whole=100, chunked=100, pieces=0),
    encode=Width(whole=80, chunked=80, pieces=0),
    half_bytes=4,
    fixed_bytes=32 * MIB,
    margin=0.15,
)
_TINY_WEIGHTS = Weights(unet=0.84, vae=0.08, largest_encoder=0.04, streamed=0.84 * 0.5, quantised=0.3)

# Exact work too, but at a third of the rate: such small layers are mostly overhead. Fitted to the same runs.
_TINY_COST = Cost(
    unet=work.TINY_UNET,
    vae=work.TINY_VAE,
    unet_efficiency=0.33,
    vae_efficiency=0.8,
    fast_share=0.7,
    step_seconds=0.03,
    overhead_seconds=0.1,
)

_ARCHITECTURES = {
    I2VGEN_XL: Architecture(
        name=I2VGEN_XL,
        limits=Limits(
            width=Range(256, 1536, 8),
            height=Range(256, 1536, 8),
            num_frames=Range(2, 64),
            num_inference_steps=Range(1, 200),
            guidance_scale=Range(0, 50),
            target_fps=Range(1, 60),
        ),
        defaults=VideoParams(512, 512, 16, 50, 9.0, 16, seed=0),
        demand=_I2VGEN_XL_DEMAND,
        weights=_I2VGEN_XL_WEIGHTS,
        cost=_I2VGEN_XL_COST,
    ),
    I2VGEN_XL_TINY: Architecture(
        name=I2VGEN_XL_TINY,
        limits=Limits(
            width=Range(64, 2048, 8),
            height=Range(64, 2048, 8),
            num_frames=Range(2, 256),
            num_inference_steps=Range(1, 999),  # one below the training timesteps: leading spacing adds one
            guidance_scale=Range(0, 50),
            target_fps=Range(1, 60),
        ),
        defaults=VideoParams(256, 256, 16, 10, 9.0, 8, seed=0),
        demand=_TINY_DEMAND,
        weights=_TINY_WEIGHTS,
        cost=_TINY_COST,
        random_weights=True,
    ),
}


def knows(name: str) -> bool:
    """Tell whether this version knows the architecture: a newer worker may have registered another."""
    return name in _ARCHITECTURES


def architecture(name: str) -> Architecture:
    """Return the architecture called `name`; raises KeyError for one this version does not know."""
    return _ARCHITECTURES[name]


def resolve(model: str | None, served: Mapping[str, ServedModel]) -> ServedModel:
    """Return the served model a caller means: by id, `tiny` for short, or the only (else newest) one for None.

    Raises `InvalidParameter` naming the models there are. `served` must not be empty; newest first.
    """
    if model is None:
        return next(iter(served.values()))
    found = served.get(TINY_MODEL_ID if model == TINY else model)
    if found is None:
        raise InvalidParameter("model", f"must be one of {', '.join(served)}, not {model[:80]!r}")
    return found
