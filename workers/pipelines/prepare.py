"""Stage zero: what a request needs of the CPU alone, done beside a running step and before the model is its own.

It uses nothing that a change of plan replaces: no network, no dtype but float32.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from PIL import Image

from workers.pipelines import framing, noise, runtime
from workers.pipelines.request import VAE_SCALE_FACTOR

if TYPE_CHECKING:
    from diffusers import DDIMScheduler
    from transformers import CLIPImageProcessorPil, CLIPTokenizer

    from workers.pipelines.components import Components
    from workers.pipelines.request import GenerationRequest


@dataclass(frozen=True)
class Inputs:
    """What the networks are given for one request: tensors on the CPU, pinned where the device is a GPU.

    `texts` are the negative prompt (with guidance only) and the prompt; `token_ids` (texts, tokens), `token_mask` the
    same or None where the text encoder wants none. `view` is CLIP's picture of the image and `frame` the video's first
    frame, both float32 (1, 3, height, width), each with a digest of its pixels. `posterior_noise` (1, 4, height / 8,
    width / 8) samples the frame's latents, `positions` (1, 1, frames - 1, 1, 1) say how far along the later frames are.
    """

    texts: tuple[str, ...]
    token_ids: torch.Tensor
    token_mask: torch.Tensor | None
    view: torch.Tensor
    view_digest: str
    frame: torch.Tensor
    frame_digest: str
    posterior_noise: torch.Tensor
    positions: torch.Tensor
    target_fps: int

    @property
    def halves(self) -> int:
        """2 with guidance, else 1."""
        return len(self.texts)


@dataclass(frozen=True)
class Preprocessor:
    """What of a model is not its weights. One thread at a time: the tokenizer is not made for more."""

    tokenizer: CLIPTokenizer
    uses_token_mask: bool
    image_processor: CLIPImageProcessorPil
    scheduler: DDIMScheduler
    latent_channels: int
    device: torch.device

    @classmethod
    def of(cls, components: Components) -> Self:
        """That of a loaded model."""
        return cls(
            tokenizer=components.tokenizer,
            uses_token_mask=getattr(components.text_encoder.config, "use_attention_mask", False),
            image_processor=components.image_processor,
            scheduler=components.scheduler,
            latent_channels=components.unet.config.in_channels,
            device=components.device,
        )

    def prepare(self, request: GenerationRequest, image: Image.Image) -> Inputs:
        """Everything for `request` from `image` (any size and mode) that no network is needed for."""
        image = image.convert("RGB")
        texts = (request.negative_prompt or "", request.prompt) if request.guided else (request.prompt,)
        token_ids, token_mask = self._tokens(texts)
        view, frame = self._view(request, image), _frame(request, image)
        latents_shape = (
            1,
            self.latent_channels,
            request.height // VAE_SCALE_FACTOR,
            request.width // VAE_SCALE_FACTOR,
        )
        later = request.num_frames - 1
        positions = torch.arange(1, request.num_frames, dtype=torch.float64) / max(later, 1)
        return Inputs(
            texts=texts,
            token_ids=self._pinned(token_ids),
            token_mask=None if token_mask is None else self._pinned(token_mask),
            view=self._pinned(view),
            view_digest=_digest(view),
            frame=self._pinned(frame),
            frame_digest=_digest(frame),
            posterior_noise=self._pinned(noise.posterior_noise(request.seed, latents_shape)),
            positions=self._pinned(positions.view(1, 1, later, 1, 1)),
            target_fps=request.target_fps,
        )

    def _pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        return runtime.pinned(tensor, self.device)

    def _tokens(self, texts: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor | None]:
        tokens = self.tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return tokens.input_ids, tokens.attention_mask if self.uses_token_mask else None

    def _view(self, request: GenerationRequest, image: Image.Image) -> torch.Tensor:
        """The image cut square at the video's width, as CLIP wants it."""
        size = self.image_processor.crop_size
        square = framing.center_crop(image, request.width, request.width)
        square = square.resize((size["width"], size["height"]), resample=Image.Resampling.BILINEAR)
        return self.image_processor(
            images=framing.to_unit_array(square),
            do_resize=False,
            do_center_crop=False,
            do_rescale=False,
            do_normalize=True,
            return_tensors="pt",
        ).pixel_values


def _frame(request: GenerationRequest, image: Image.Image) -> torch.Tensor:
    frame = framing.center_crop(image, request.width, request.height)
    return torch.from_numpy(2.0 * framing.to_unit_array(frame) - 1.0)


def _digest(pixels: torch.Tensor) -> str:
    return hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).hexdigest()
