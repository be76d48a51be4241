"""What one video is asked to be. No torch here, so that anything may read it."""

from __future__ import annotations

from dataclasses import dataclass

VAE_SCALE_FACTOR = 8
"""Pixels per latent along each side: the VAE halves the image three times."""


@dataclass(frozen=True)
class GenerationRequest:
    """The parameters of one video, in diffusers' words.

    `width` and `height` are pixels, multiples of 8. `target_fps` conditions the model; it is also the rate
    the frames are meant to be shown at. Guidance is on when `guidance_scale > 1`; `negative_prompt` then
    steers away from itself. Torch's CPU generator uses the low 32 bits of `seed` only: seeds that agree in
    those give the same video.

    Raises ValueError, naming the field and its limit.
    """

    prompt: str
    negative_prompt: str | None
    width: int
    height: int
    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    target_fps: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            pixels = getattr(self, name)
            if pixels < VAE_SCALE_FACTOR or pixels % VAE_SCALE_FACTOR:
                raise ValueError(f"{name} must be a positive multiple of {VAE_SCALE_FACTOR}, not {pixels}")
        for name in ("num_frames", "num_inference_steps", "target_fps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be from 0 to 2**63 - 1, not {self.seed}")

    @property
    def guided(self) -> bool:
        """Whether each step runs both halves, without the prompt and with it."""
        return self.guidance_scale > 1
