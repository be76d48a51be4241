"""Stage two: noise becomes latents, one DDIM step at a time.

A step depends on the conditioning, the latents and its index, and on nothing else: a run stopped after any
step goes on from its latents, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers import DDIMScheduler

from workers.pipelines import noise
from workers.pipelines.request import VAE_SCALE_FACTOR

if TYPE_CHECKING:
    from workers.pipelines.components import Components
    from workers.pipelines.encode import Conditioning
    from workers.pipelines.request import GenerationRequest


def make_scheduler(components: Components, request: GenerationRequest) -> DDIMScheduler:
    """A scheduler for this request alone, its `num_inference_steps` timesteps set.

    Its own, because a scheduler remembers the number of steps, and two jobs may be under way at once. Its
    tensors stay on the CPU, where reading one never waits for the GPU. Raises ValueError for more steps than the
    model was trained with; "leading" spacing with an offset, the published setting, allows one less.
    """
    scheduler = DDIMScheduler.from_config(components.scheduler.config)
    scheduler.set_timesteps(request.num_inference_steps, device="cpu")
    trained = scheduler.config.num_train_timesteps
    if int(scheduler.timesteps.max()) >= trained:
        raise ValueError(f"num_inference_steps must be below {trained}, not {request.num_inference_steps}")
    return scheduler


def latents_shape(components: Components, request: GenerationRequest) -> tuple[int, int, int, int, int]:
    """(1, channels, frames, height / 8, width / 8)."""
    return (
        1,
        components.unet.config.in_channels,
        request.num_frames,
        request.height // VAE_SCALE_FACTOR,
        request.width // VAE_SCALE_FACTOR,
    )


def initial_latents(components: Components, request: GenerationRequest, scheduler: DDIMScheduler) -> torch.Tensor:
    """The noise that step 0 starts from, of `latents_shape`, the same for a seed on every device."""
    drawn = noise.latents_noise(request.seed, latents_shape(components, request))
    return drawn.to(components.device, components.dtype) * scheduler.init_noise_sigma


def denoise_step(
    components: Components,
    conditioning: Conditioning,
    scheduler: DDIMScheduler,
    latents: torch.Tensor,
    index: int,
) -> torch.Tensor:
    """The latents after step `index` (0 is the noisiest). Raises IndexError past the last one."""
    timestep = int(scheduler.timesteps[index])
    with torch.inference_mode():
        noise_pred = _predict(components, conditioning, scheduler.scale_model_input(latents, timestep), timestep)
        # As diffusers does: the scheduler sees frames as the batch, which matters only where it thresholds
        # per sample.
        stepped = scheduler.step(_as_frames(noise_pred), timestep, _as_frames(latents), eta=0.0).prev_sample
        return stepped.transpose(0, 1).unsqueeze(0)


def _predict(components: Components, conditioning: Conditioning, latents: torch.Tensor, timestep: int) -> torch.Tensor:
    """The UNet's output, guided: equation 6 of Ho and Salimans, arXiv 2207.12598; the scale is `1 + w`."""
    batch = conditioning.fps.shape[0]
    prediction = components.unet(
        latents.repeat(batch, 1, 1, 1, 1),
        torch.full((batch,), timestep, device=latents.device),
        fps=conditioning.fps,
        image_latents=conditioning.image_latents,
        image_embeddings=conditioning.image_embeds,
        encoder_hidden_states=conditioning.prompt_embeds,
        return_dict=False,
    )[0]
    if batch == 1:
        return prediction
    without, with_prompt = prediction.chunk(2)
    return without + conditioning.guidance_scale * (with_prompt - without)


def _as_frames(latents: torch.Tensor) -> torch.Tensor:
    return latents.squeeze(0).transpose(0, 1)
