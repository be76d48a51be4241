"""Stage two: noise becomes latents, one DDIM step at a time, several runs in one forward pass of the UNet.

A step depends on the conditioning, the latents and its index, and on nothing else: a run stopped after any
step goes on from its latents, bit for bit. Nothing here waits for the GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusers import DDIMScheduler

from workers.pipelines import noise
from workers.pipelines.request import VAE_SCALE_FACTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from workers.pipelines.encode import Conditioning
    from workers.pipelines.request import GenerationRequest


def make_scheduler(model_scheduler: DDIMScheduler, request: GenerationRequest) -> DDIMScheduler:
    """A scheduler like the model's for this request alone, its `num_inference_steps` timesteps set.

    Its own, because a scheduler remembers the number of steps, and several jobs may be under way at once. Its
    tensors stay on the CPU, where reading one never waits for the GPU. Raises ValueError for more steps than the
    model was trained with; "leading" spacing with an offset, the published setting, allows one less.
    """
    scheduler = DDIMScheduler.from_config(model_scheduler.config)
    scheduler.set_timesteps(request.num_inference_steps, device="cpu")
    trained = scheduler.config.num_train_timesteps
    if int(scheduler.timesteps.max()) >= trained:
        raise ValueError(f"num_inference_steps must be below {trained}, not {request.num_inference_steps}")
    return scheduler


def latents_shape(channels: int, request: GenerationRequest) -> tuple[int, int, int, int, int]:
    """(1, channels, frames, height / 8, width / 8)."""
    return (
        1,
        channels,
        request.num_frames,
        request.height // VAE_SCALE_FACTOR,
        request.width // VAE_SCALE_FACTOR,
    )


def initial_latents(channels: int, request: GenerationRequest, scheduler: DDIMScheduler) -> torch.Tensor:
    """The noise that step 0 starts from, of `latents_shape`: float32 on the CPU, so the same on every device."""
    return noise.latents_noise(request.seed, latents_shape(channels, request)) * scheduler.init_noise_sigma


def predict(
    unet: Callable[..., Any],
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    conditioning: Conditioning,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The UNet's output for a batch: `latents` (batch, channels, frames, height / 8, width / 8), `timesteps` (batch,).

    The UNet computes in `dtype`; the result is in that of `latents`.
    """
    return unet(
        latents.to(dtype),
        timesteps,
        fps=conditioning.fps,
        image_latents=conditioning.image_latents.to(dtype),
        image_embeddings=conditioning.image_embeds.to(dtype),
        encoder_hidden_states=conditioning.prompt_embeds.to(dtype),
        return_dict=False,
    )[0].to(latents.dtype)


def advance(
    scheduler: DDIMScheduler, prediction: torch.Tensor, latents: torch.Tensor, index: int, guidance_scale: float
) -> torch.Tensor:
    """One run's latents after step `index` (0 is the noisiest), from its one or two rows of the prediction."""
    timestep = int(scheduler.timesteps[index])
    guided = _guided(prediction, guidance_scale)
    # As diffusers does: the scheduler sees frames as the batch, which matters only where it thresholds
    # per sample.
    stepped = scheduler.step(_as_frames(guided), timestep, _as_frames(latents), eta=0.0).prev_sample
    return stepped.transpose(0, 1).unsqueeze(0)


def _guided(prediction: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """Equation 6 of Ho and Salimans, arXiv 2207.12598; the scale is `1 + w`."""
    if prediction.shape[0] == 1:
        return prediction
    without, with_prompt = prediction.chunk(2)
    return without + guidance_scale * (with_prompt - without)


def _as_frames(latents: torch.Tensor) -> torch.Tensor:
    return latents.squeeze(0).transpose(0, 1)
