"""What a shape costs, counted without computing it: the networks on torch's meta device, with shapes and no values.

`scheduler.work` has the same FLOPs as formulas, and `scheduler.catalog` the values that live at the widest points,
which `live_bytes` counts. The published size takes a second or two, and no memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from diffusers import AutoencoderKL, I2VGenXLUNet
from torch.utils.flop_counter import FlopCounterMode

from scheduler.work import VAE_SCALE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scheduler.shape import Shape

_PROMPT_TOKENS = 77  # of CLIP's text encoder
_DTYPE = torch.float16
_PUBLISHED_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}


@dataclass(frozen=True)
class Networks:
    """UNet and VAE of one architecture in FP16, with shapes and no values."""

    unet: I2VGenXLUNet
    vae: AutoencoderKL

    @classmethod
    def published(cls) -> Self:
        """I2VGen-XL as published."""
        with torch.device("meta"):
            return cls(I2VGenXLUNet().to(_DTYPE).eval(), AutoencoderKL(**_PUBLISHED_VAE).to(_DTYPE).eval())

    @classmethod
    def of(cls, path: Path) -> Self:
        """What the configuration files of the model folder at `path` say."""
        with torch.device("meta"):
            unet = I2VGenXLUNet.from_config(I2VGenXLUNet.load_config(path / "unet"))
            vae = AutoencoderKL.from_config(AutoencoderKL.load_config(path / "vae"))
        return cls(unet.to(_DTYPE).eval(), vae.to(_DTYPE).eval())

    def step(self, shape: Shape) -> None:
        """Run one denoising step of `shape`, all its samples in one batch."""
        latents = _latents(shape, shape.halves, 4, shape.num_frames)
        width = self.unet.config.cross_attention_dim
        whole = torch.empty(shape.halves, dtype=torch.int64, device="meta")
        with torch.inference_mode():
            self.unet(
                latents,
                whole,
                fps=whole,
                image_latents=latents,
                image_embeddings=torch.empty(shape.halves, 1, width, dtype=_DTYPE, device="meta"),
                encoder_hidden_states=torch.empty(shape.halves, _PROMPT_TOKENS, width, dtype=_DTYPE, device="meta"),
                return_dict=False,
            )

    def decode(self, shape: Shape) -> None:
        """Decode one frame of `shape`."""
        with torch.inference_mode():
            self.vae.decode(_latents(shape, 1, 4), return_dict=False)

    def encode(self, shape: Shape) -> None:
        """Encode the image of `shape`."""
        image = torch.empty(1, 3, shape.height, shape.width, dtype=_DTYPE, device="meta")
        with torch.inference_mode():
            self.vae.encode(image, return_dict=False)


def flops(run: Callable[[], None]) -> int:
    """The FLOPs of what `run` does on the meta device: matrix products, convolutions and attention."""
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return int(counter.get_total_flops())


def _latents(shape: Shape, *leading: int) -> torch.Tensor:
    return torch.empty(*leading, shape.height // VAE_SCALE, shape.width // VAE_SCALE, dtype=_DTYPE, device="meta")
