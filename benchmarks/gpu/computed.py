"""What needs no GPU: the tensors that live at once at the published size, counted on the meta device, by FP16 plan.

What a kernel takes for itself, what the allocator loses between blocks and the device context are not in it.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.gpu.rows import TABLE
from scheduler.catalog import I2VGEN_XL, architecture
from scheduler.plans import PLANS, Precision, Technique
from scheduler.shape import Shape
from workers.pipelines import chunking, tiling
from workers.pipelines.counting import Networks
from workers.pipelines.live_bytes import LiveBytes

_WEIGHTS_BYTES = 4_970_000_000  # as published, FP16
_HALF = tuple(plan for plan in PLANS.values() if plan.precision is Precision.FLOAT16)


def measure() -> dict[str, Any]:
    """Return, by shape and plan, the bytes at the peak of the denoising and of the decoding, weights included."""
    networks = Networks.published()
    results: dict[str, Any] = {}
    for shape in dict.fromkeys(row.shape for row in TABLE):
        whole = _stages(networks, shape)
        chunking.install(networks.unet)
        tiling.install(networks.vae)
        pieces = _stages(networks, shape)
        chunking.remove(networks.unet)
        tiling.remove(networks.vae)
        results[shape.key] = {
            plan.name: _with_weights(plan.technique, *(whole if plan.technique is Technique.WHOLE else pieces))
            for plan in _HALF
        }
    return results


def _stages(networks: Networks, shape: Shape) -> tuple[int, int]:
    return _peak(lambda: networks.step(shape)), _peak(lambda: networks.decode(shape))


def _peak(run: Callable[[], None]) -> int:
    with LiveBytes() as counted:
        run()
    return counted.peak_bytes


def _with_weights(technique: Technique, step_bytes: int, decode_bytes: int) -> dict[str, int]:
    """Add the weights that the plan has on the device in each stage, by the shares of the catalog."""
    shares = architecture(I2VGEN_XL).weights
    denoising = decoding = 1.0
    if technique is Technique.OFFLOADED:
        denoising, decoding = shares.unet, shares.unet + shares.vae
    elif technique is Technique.STREAMED:
        denoising, decoding = shares.streamed, shares.streamed + shares.vae
    denoise_bytes = step_bytes + int(denoising * _WEIGHTS_BYTES)
    return {
        "denoise_bytes": denoise_bytes,
        "decode_bytes": decode_bytes + int(decoding * _WEIGHTS_BYTES),
        "peak_bytes": max(denoise_bytes, decode_bytes + int(decoding * _WEIGHTS_BYTES)),
    }
