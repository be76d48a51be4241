"""The model architectures the service knows: limits, defaults, and what they cost. No weights, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from scheduler.errors import InvalidParameter
from scheduler.footprint import Cost, Demand, Footprint, predict, resident_bytes
from scheduler.params import Limits, Range, VideoParams
from scheduler.records import ServedModel

MIB = 2**20

TINY = "tiny"  # what `--model` and a job's `model` may say for short
TINY_MODEL_ID = "tiny-random-noise"  # what a job of it says: random weights, its output is noise
TINY_REVISION = "1"  # of the recipe in workers.pipelines.tiny; the weights follow from it
TINY_WEIGHTS_BYTES = 625_854

I2VGEN_XL = "i2vgen-xl"
I2VGEN_XL_TINY = "i2vgen-xl-tiny"


@dataclass(frozen=True, slots=True)
class Architecture:
    """What is true of every model of one architecture, whatever its weights."""

    name: str
    limits: Limits
    defaults: VideoParams
    demand: Mapping[str, Demand]
    cost: Cost
    random_weights: bool = False

    def footprint(self, params: VideoParams, *, plan: str, kind: str, weights_bytes: int) -> Footprint:
        """Predict what `params` need under `plan` on GPUs of `kind`."""
        rate = effective_flops_per_second(kind)
        return predict(self.demand, self.cost, params, plan=plan, weights_bytes=weights_bytes, flops_per_second=rate)

    def resident_bytes(self, plan: str, weights_bytes: int) -> int:
        """Predict what a process with the weights loaded holds between jobs."""
        return resident_bytes(self.demand[plan], weights_bytes)


# Effective dense FP16 rates: half of the data sheet's tensor rate, FLOP/s. Only the order of magnitude matters
# until attempts of this installation have been measured.
_RATES = {
    "H200": 495e12,
    "H100": 495e12,
    "A100": 156e12,
    "L40S": 181e12,
    "4090": 82e12,
    "3090": 36e12,
    "A10": 62e12,
    "L4": 60e12,
    "T4": 32e12,
}
_UNKNOWN_GPU_RATE = 50e12
_CPU_RATE = 20e9  # one core of a 2020s server, float32


def effective_flops_per_second(kind: str) -> float:
    """Return the rate to predict seconds with on a GPU `kind` (its NVML name, or "cpu")."""
    if kind == "cpu":
        return _CPU_RATE
    return next((rate for name, rate in _RATES.items() if name in kind), _UNKNOWN_GPU_RATE)


# FLOPs per step with guidance on, and of the decode, fitted to counts of the real UNet and VAE at 512x512x16,
# 768x768x16 and x24, 1024x1024x32 and 1280x704x16 (41.9, 105, 157, 428, 176 TFLOP a step): within 1 %.
_I2VGEN_XL_COST = Cost(
    step_linear=5.81e8,
    step_quadratic=1.44e4,
    decode_linear=6.0e8,
    decode_quadratic=2.4e3,
    step_seconds=0.03,
    overhead_seconds=1.0,
)

# The widest point of the UNet is the feed-forward of its first level, 320 channels: GEGLU makes 8 x 320 values a
# token and keeps 4 x 320, beside about six tensors of 320 (input, residual, skips): 5,760 values a token.
# The VAE decodes frame by frame, at its widest 256 channels at full size, about five tensors at once.
_I2VGEN_XL_DEMAND = {
    "fp16": Demand(
        process_bytes=640 * MIB,
        weights_factor=1.0,
        denoise_bytes_per_token=5760 * 2,
        decode_bytes_per_pixel=5 * 256 * 2,
        fixed_bytes=256 * MIB,
        margin=0.15,
    ),
    "fp32": Demand(
        process_bytes=1024 * MIB,
        weights_factor=2.0,  # published as FP16, held as FP32
        denoise_bytes_per_token=5760 * 4,
        decode_bytes_per_pixel=5 * 256 * 4,
        fixed_bytes=256 * MIB,
        margin=0.15,
    ),
}

# Fitted to measured peaks (VmHWM above the loaded process, one thread, float32) from 64x64x2 to 512x512x16: never
# below them. With one step at 512x512x16: 194 MiB measured, 228 MiB predicted before the margin.
_TINY_DEMAND = {
    "fp32": Demand(
        process_bytes=640 * MIB,
        weights_factor=1.0,
        denoise_bytes_per_token=1664,
        decode_bytes_per_pixel=400,
        fixed_bytes=32 * MIB,
        margin=0.15,
    ),
}
_TINY_DEMAND["fp16"] = _TINY_DEMAND["fp32"]  # too small to tell apart

# Equivalent work at `_CPU_RATE`, fitted to measured seconds of the same runs.
_TINY_COST = Cost(
    step_linear=7.0e5,
    step_quadratic=634.0,
    decode_linear=6.5e5,
    decode_quadratic=0.0,
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
