"""The published architecture, without its weights: torch's meta device has shapes and no values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import DDIMScheduler, I2VGenXLUNet

from workers.pipelines import denoise
from workers.pipelines.encode import Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.pipelines.request import GenerationRequest


@pytest.fixture(scope="module")
def unet() -> I2VGenXLUNet:
    with torch.device("meta"):
        return I2VGenXLUNet().eval()


def test_the_unet_has_1_42_billion_parameters(unet: I2VGenXLUNet) -> None:
    assert round(sum(parameter.numel() for parameter in unet.parameters()) / 1e9, 2) == 1.42


def test_a_step_keeps_the_shape_of_the_latents(
    unet: I2VGenXLUNet, make_request: Callable[..., GenerationRequest]
) -> None:
    request = make_request(width=512, height=320, num_frames=16)
    shape = denoise.latents_shape(unet.config.in_channels, request)
    assert shape == (1, 4, 16, 40, 64)
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(2)
    conditioning = Conditioning(
        prompt_embeds=torch.empty(2, 77, 1024, device="meta"),
        image_embeds=torch.empty(2, 1, 1024, device="meta"),
        image_latents=torch.empty(2, *shape[1:], device="meta"),
        fps=torch.empty(2, dtype=torch.int64, device="meta"),
    )
    latents = torch.empty(shape, device="meta")
    timesteps = torch.empty(2, dtype=torch.int64, device="meta")
    prediction = denoise.predict(unet, latents.expand(2, -1, -1, -1, -1), timesteps, conditioning, torch.float32)
    assert denoise.advance(scheduler, prediction, latents, 0, 9.0).shape == shape
