"""Stage one: prompt and image become what every denoising step is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image

from workers.pipelines import framing, noise

if TYPE_CHECKING:
    from workers.pipelines.components import Components
    from workers.pipelines.request import GenerationRequest


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
    guidance_scale: float


def encode(components: Components, request: GenerationRequest, image: Image.Image) -> Conditioning:
    """Encode the prompt, the negative prompt and `image` (any size) for `request`."""
    image = image.convert("RGB")
    batch = 2 if request.guided else 1
    with torch.inference_mode():
        return Conditioning(
            prompt_embeds=_prompt_embeds(components, request),
            image_embeds=_image_embeds(components, request, image),
            image_latents=_image_latents(components, request, image).repeat(batch, 1, 1, 1, 1),
            fps=torch.full((batch,), request.target_fps, device=components.device),
            guidance_scale=request.guidance_scale,
        )


def _prompt_embeds(components: Components, request: GenerationRequest) -> torch.Tensor:
    """The text encoder's last layer but one, normalised: as I2VGen-XL was trained (`clip_skip=1`)."""
    texts = [request.negative_prompt or "", request.prompt] if request.guided else [request.prompt]
    tokenizer, text_encoder = components.tokenizer, components.text_encoder
    tokens = tokenizer(
        texts,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    use_mask = getattr(text_encoder.config, "use_attention_mask", False)
    mask = tokens.attention_mask.to(components.device) if use_mask else None
    output = text_encoder(tokens.input_ids.to(components.device), attention_mask=mask, output_hidden_states=True)
    return text_encoder.final_layer_norm(output.hidden_states[-2]).to(components.dtype)


def _image_embeds(components: Components, request: GenerationRequest, image: Image.Image) -> torch.Tensor:
    """CLIP's view of the image, cut square at the video's width; zeros for the negative half."""
    size = components.image_processor.crop_size
    square = framing.center_crop(image, request.width, request.width)
    square = square.resize((size["width"], size["height"]), resample=Image.Resampling.BILINEAR)
    pixels = components.image_processor(
        images=framing.to_unit_array(square),
        do_resize=False,
        do_center_crop=False,
        do_rescale=False,
        do_normalize=True,
        return_tensors="pt",
    ).pixel_values
    embeds = components.image_encoder(pixels.to(components.device, components.dtype)).image_embeds.unsqueeze(1)
    return torch.cat([torch.zeros_like(embeds), embeds]) if request.guided else embeds


def _image_latents(components: Components, request: GenerationRequest, image: Image.Image) -> torch.Tensor:
    """The first frame's latents, then for each later frame a constant that says how far along it is."""
    frame = framing.center_crop(image, request.width, request.height)
    pixels = torch.from_numpy(2.0 * framing.to_unit_array(frame) - 1.0)
    posterior = components.vae.encode(pixels.to(components.device, components.dtype)).latent_dist
    drawn = noise.posterior_noise(request.seed, tuple(posterior.mean.shape)).to(posterior.mean)
    first = (posterior.mean + posterior.std * drawn) * components.vae.config.scaling_factor
    later = request.num_frames - 1
    positions = torch.arange(1, request.num_frames, dtype=torch.float64) / max(later, 1)
    positions = positions.to(first).view(1, 1, later, 1, 1)
    batch, channels, height, width = first.shape
    return torch.cat([first.unsqueeze(2), positions.expand(batch, channels, later, height, width)], dim=2)
