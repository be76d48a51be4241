"""Every random number of a video, so that one seed means one video on every device.

Two streams, drawn on the CPU in float32 and only then moved and cast, each from a fresh generator, so the
order in which stages run does not matter and a resumed run needs no generator state:

1. the initial latents, one draw of the whole shape, from `seed` (as diffusers' pipelines do with a CPU
   generator);
2. the sample of the VAE posterior of the first frame, one draw of its shape, from `seed` with its bits
   stirred.

DDIM with eta 0 draws nothing between the steps.
"""

from __future__ import annotations

import torch

# Any constant with bits set in its low half does: torch's CPU generator reads 32 bits of a seed. This one is
# 2**63 over the golden ratio. Without it, the posterior's noise would be the start of the latents' noise.
_POSTERIOR_STREAM = 0x4F1BBCDCBFA53E0B


def latents_noise(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal noise for the initial latents: float32, on the CPU."""
    return _normal(seed, shape)


def posterior_noise(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal noise for the sample of the VAE posterior: float32, on the CPU."""
    return _normal(seed ^ _POSTERIOR_STREAM, shape)


def _normal(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
