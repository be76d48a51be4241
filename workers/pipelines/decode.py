"""Stage three: latents become frames, one by one, so that the peak does not grow with their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from workers.pipelines import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from workers.pipelines.execution import Execution

_BLACK = 1  # of 255: no camera and no codec tells such a pixel from black


class NoPicture(ArithmeticError):
    """The VAE gave nothing that could be shown: another precision may."""


class NonFiniteFrame(NoPicture):
    """The VAE's output has NaN or infinite values."""


class BlackFrame(NoPicture):
    """A frame is black all over: what an overflow in the VAE looks like, or what was asked for."""


def decode(
    execution: Execution, latents: torch.Tensor, *, dtype: torch.dtype | None = None, accept_black: bool = False
) -> Iterator[np.ndarray]:
    """The frames in order, each uint8 of shape (height, width, 3). `latents` are one video's, on the device.

    The VAE knows nothing of time, so each frame is decoded by itself. It computes in `dtype`, or as the plan says.
    While a frame is used, a GPU decodes the next one. Raises NonFiniteFrame and, unless that is accepted, BlackFrame,
    naming the frame; those before it have been yielded.
    """
    if dtype is not None:
        execution.vae_dtype(dtype)
    try:
        with execution.loaded("vae"):
            yield from _frames(execution.components.vae, latents, accept_black=accept_black)
    finally:
        if dtype is not None and execution.plan is not None:
            execution.vae_dtype(None)


def _frames(vae: Any, latents: torch.Tensor, *, accept_black: bool) -> Iterator[np.ndarray]:
    frames = latents.squeeze(0).transpose(0, 1)
    under_way = _begin(vae, frames[0])
    for index in range(len(frames)):
        decoded = under_way
        if index + 1 < len(frames):
            under_way = _begin(vae, frames[index + 1])
        yield decoded.pixels(f"frame {index + 1} of {len(frames)}", accept_black=accept_black)


@dataclass(frozen=True)
class _Decoded:
    """One frame, perhaps still being decoded or on its way from a GPU."""

    levels: torch.Tensor
    finite: torch.Tensor
    uniform: torch.Tensor
    dtype: torch.dtype
    arrived: torch.cuda.Event | None

    def pixels(self, name: str, *, accept_black: bool) -> np.ndarray:
        """Wait for the frame and check it."""
        if self.arrived is not None:
            self.arrived.synchronize()
        if not self.finite.item():
            raise NonFiniteFrame(f"{name} is not finite ({self.dtype})")
        pixels: np.ndarray = self.levels.numpy()
        # Latents that are the same everywhere may well stand for black; noise and pictures do not.
        if not accept_black and pixels.max() <= _BLACK and not self.uniform.item():
            raise BlackFrame(f"{name} is black ({self.dtype})")
        return pixels


def _begin(vae: Any, latents: torch.Tensor) -> _Decoded:
    """Decode one frame's latents (channels, height / 8, width / 8); on a GPU this only gives it the work."""
    with torch.inference_mode():
        scaled = latents.unsqueeze(0).to(vae.dtype) * (1 / vae.config.scaling_factor)
        sample = vae.decode(scaled, return_dict=False)[0][0]
        unit = (sample.float() * 0.5 + 0.5).clamp(0, 1)
        levels = (unit * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
        copy = runtime.queue_download(levels)
        finite = runtime.queue_download(sample.isfinite().all())
        uniform = runtime.queue_download(latents.max() == latents.min())
    arrived = None
    if sample.device.type == "cuda":
        arrived = torch.cuda.Event(blocking=True)
        arrived.record()
    return _Decoded(copy, finite, uniform, vae.dtype, arrived)
