"""Stage one: prompt and image, prepared, become what every denoising step is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from workers.pipelines import runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.pipelines.components import Components
    from workers.pipelines.embeddings import EmbeddingCache
    from workers.pipelines.execution import Execution
    from workers.pipelines.prepare import Inputs


@dataclass(frozen=True)
class Conditioning:
    """What the UNet gets beside the latents. `batch` is 2 with guidance (negative half first), else 1.

    `prompt_embeds` (batch, tokens, channels), `image_embeds` (batch, 1, channels), `image_latents` (batch, 4,
    frames, height / 8, width / 8), `fps` (batch,).
    """

    prompt_embeds: torch.Tensor
    image_embeds: torch.Tensor
    image_latents: torch.Tensor
    fps: torch.Tensor

    def is_finite(self) -> bool:
        """Whether every number is; waits for the GPU."""
        parts = (self.prompt_embeds, self.image_embeds, self.image_latents)
        return bool(torch.stack([part.isfinite().all() for part in parts]).all())

    @property
    def batch(self) -> int:
        """How many samples of a forward pass it is for."""
        return int(self.fps.shape[0])


def encode(execution: Execution, inputs: Inputs, cache: EmbeddingCache, dtype: torch.dtype) -> Conditioning:
    """Run the three encoders, or take from `cache` what they gave before; the result is in `dtype`."""
    parts, halves = execution.components, inputs.halves
    device, made_with = parts.device, (execution.plan, dtype)
    with torch.inference_mode():
        (prompt_embeds,) = cache.get(
            ("prompt", made_with, parts.text_encoder.dtype, inputs.texts),
            device,
            lambda: (_prompt_embeds(execution, inputs).to(dtype),),
        )
        (image_embeds,) = cache.get(
            ("view", made_with, parts.image_encoder.dtype, inputs.view_digest),
            device,
            lambda: (_image_embeds(execution, inputs).to(dtype),),
        )
        posterior = cache.get(
            ("frame", made_with, parts.vae.dtype, inputs.frame_digest),
            device,
            lambda: _posterior(execution, inputs),
        )
        image_latents = _image_latents(parts, inputs, *posterior).to(dtype)
        return Conditioning(
            prompt_embeds=prompt_embeds,
            image_embeds=torch.cat([torch.zeros_like(image_embeds), image_embeds]) if halves == 2 else image_embeds,
            image_latents=image_latents.repeat(halves, 1, 1, 1, 1),
            fps=torch.full((halves,), inputs.target_fps, device=device),
        )


def join(parts: Sequence[Conditioning]) -> Conditioning:
    """The conditioning of one forward pass for several runs of one size, in their order."""
    return Conditioning(
        prompt_embeds=torch.cat([part.prompt_embeds for part in parts]),
        image_embeds=torch.cat([part.image_embeds for part in parts]),
        image_latents=torch.cat([part.image_latents for part in parts]),
        fps=torch.cat([part.fps for part in parts]),
    )


def _prompt_embeds(execution: Execution, inputs: Inputs) -> torch.Tensor:
    """The text encoder's last layer but one, normalised: as I2VGen-XL was trained (`clip_skip=1`)."""
    with execution.loaded("text_encoder"):
        text_encoder, device = execution.components.text_encoder, execution.components.device
        mask = None if inputs.token_mask is None else runtime.upload(inputs.token_mask, device)
        ids = runtime.upload(inputs.token_ids, device)
        output = text_encoder(ids, attention_mask=mask, output_hidden_states=True)
        return text_encoder.final_layer_norm(output.hidden_states[-2])


def _image_embeds(execution: Execution, inputs: Inputs) -> torch.Tensor:
    """CLIP's embedding of the image, (1, 1, channels)."""
    with execution.loaded("image_encoder"):
        image_encoder, device = execution.components.image_encoder, execution.components.device
        return image_encoder(runtime.upload(inputs.view, device, image_encoder.dtype)).image_embeds.unsqueeze(1)


def _posterior(execution: Execution, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the first frame's latents."""
    with execution.loaded("vae"):
        vae, device = execution.components.vae, execution.components.device
        posterior = vae.encode(runtime.upload(inputs.frame, device, vae.dtype)).latent_dist
        return posterior.mean, posterior.std


def _image_latents(components: Components, inputs: Inputs, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """The first frame's latents, then for each later frame a constant that says how far along it is."""
    drawn = runtime.upload(inputs.posterior_noise, mean.device, mean.dtype)
    first = (mean + std * drawn) * components.vae.config.scaling_factor
    positions = runtime.upload(inputs.positions, mean.device, mean.dtype)
    batch, channels, height, width = first.shape
    later = positions.shape[2]
    return torch.cat([first.unsqueeze(2), positions.expand(batch, channels, later, height, width)], dim=2)
