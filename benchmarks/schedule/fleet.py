"""The fleet, and what a job needs on each of its GPUs: by the scheduler's own data sheets."""

import math
from dataclasses import dataclass
from functools import lru_cache

from benchmarks.queue.reelq import GIB, MODEL
from scheduler import catalog
from scheduler.footprints import PriorPredictor
from scheduler.params import VideoParams
from scheduler.plans import GPU_PLANS, usable
from scheduler.records import GpuInfo

PLAN = GPU_PLANS[0]
PREDICTOR = PriorPredictor()
RESIDENT_BYTES = catalog.architecture(MODEL.architecture).resident_bytes(PLAN, MODEL.weights_bytes)
_CARDS = (
    ("NVIDIA GeForce RTX 4090", 24),
    ("NVIDIA GeForce RTX 4090", 24),
    ("NVIDIA L40S", 48),
    ("NVIDIA A100-SXM4-80GB", 80),
)
FLEET = tuple(
    GpuInfo(f"GPU-{number}", "host-0", MODEL.id, kind, kind, GPU_PLANS, size * GIB, headroom_bytes=GIB)
    for number, (kind, size) in enumerate(_CARDS)
)
_REFERENCE = VideoParams(512, 512, 16, 50, 9.0, 16, seed=0)


@dataclass(frozen=True, slots=True)
class Need:
    """What a job needs on one GPU: memory with the weights, seconds alone on it, and those of its first step."""

    vram_bytes: int
    seconds: float
    first_step_seconds: float


def need(params: VideoParams, gpu: GpuInfo, plan: str = PLAN) -> Need:
    """Return what `params` need on `gpu` under `plan`."""
    footprint = PREDICTOR.predict(MODEL, kind=gpu.kind, plan=plan, params=params)
    step = PREDICTOR.step_seconds(MODEL, kind=gpu.kind, plan=plan, params=params)
    overhead = footprint.seconds - params.num_inference_steps * step
    return Need(footprint.vram_bytes, footprint.seconds, overhead + step)


def fits(params: VideoParams, gpu: GpuInfo, plan: str = PLAN) -> bool:
    """Tell whether a job fits a GPU on which nothing else runs, with the memory that is kept free there."""
    return need(params, gpu, plan).vram_bytes <= gpu.total_bytes - gpu.headroom_bytes


def fastest_seconds(params: VideoParams, gpu: GpuInfo) -> float:
    """Return the seconds of a job alone on a GPU under the fastest plan that fits it there; infinite without one."""
    plans = (plan for plan in usable(GPU_PLANS, allow_int8=False) if fits(params, gpu, plan))
    return min((need(params, gpu, plan).seconds for plan in plans), default=math.inf)


@lru_cache(maxsize=1024)
def work_seconds(params: VideoParams) -> float:
    """Return the seconds that a job costs the whole fleet at the least: no schedule ends sooner than their sum.

    A GPU's second counts as the GPU's share of the fleet's speed. These shares add up to 1, so whatever runs where,
    the fleet does at most one second of work a second; and a job counts where and how it is cheapest.
    """
    speeds = [1.0 / need(_REFERENCE, gpu).seconds for gpu in FLEET]
    total = sum(speeds)
    return min(speed / total * fastest_seconds(params, gpu) for speed, gpu in zip(speeds, FLEET, strict=True))
