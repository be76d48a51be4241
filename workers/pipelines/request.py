"""What one video is asked to be. No torch here, so that anything may read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from scheduler.params import FAST, PRESETS, STANDARD
from scheduler.shape import Shape

if TYPE_CHECKING:
    from scheduler.params import VideoParams

VAE_SCALE_FACTOR = 8
"""Pixels per latent along each side: the VAE halves the image three times."""


@dataclass(frozen=True)
class GenerationRequest:
    """The parameters of one video, in diffusers' words.

    `width` and `height` are pixels, multiples of 8. `target_fps` conditions the model; it is also the rate
    the frames are meant to be shown at. Guidance is on when `guidance_scale > 1`; `negative_prompt` then
    steers away from itself. Torch's CPU generator uses the low 32 bits of `seed` only: seeds that agree in
    those give the same video. `preset` is `standard`, or `fast`, which reuses attention outputs (`broadcast.py`).

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
    preset: str = STANDARD

    @classmethod
    def of(cls, prompt: str, params: VideoParams) -> Self:
        """The request of a job with `prompt` and `params`."""
        return cls(
            prompt=prompt,
            negative_prompt=params.negative_prompt,
            width=params.width,
            height=params.height,
            num_frames=params.num_frames,
            num_inference_steps=params.num_inference_steps,
            guidance_scale=params.guidance_scale,
            target_fps=params.target_fps,
            seed=params.seed,
            preset=params.preset,
        )

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
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, not {self.preset!r}")

    @property
    def guided(self) -> bool:
        """Whether each step runs both halves, without the prompt and with it."""
        return self.guidance_scale > 1

    @property
    def fast(self) -> bool:
        """Whether steps may reuse what earlier ones computed."""
        return self.preset == FAST

    @property
    def shape(self) -> Shape:
        """All that memory and step time depend on."""
        return Shape(self.width, self.height, self.num_frames, self.guided, self.preset)
