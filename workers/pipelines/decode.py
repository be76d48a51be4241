"""Stage three: latents become frames, a few at a time, so that the peak does not grow with their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from workers.pipelines.components import Components


class NonFiniteFrame(ArithmeticError):
    """The VAE's output has NaN or infinite values: nothing that could be shown."""


def decode(components: Components, latents: torch.Tensor, *, frames_per_chunk: int = 1) -> Iterator[np.ndarray]:
    """The frames in order, each uint8 of shape (height, width, 3), decoded `frames_per_chunk` at a time.

    The VAE knows nothing of time: frames decoded one by one are the frames decoded all at once, up to
    rounding. Raises NonFiniteFrame, naming the frame.
    """
    frames = latents.squeeze(0).transpose(0, 1)
    for start in range(0, len(frames), frames_per_chunk):
        for offset, pixels in enumerate(_decode_chunk(components, frames[start : start + frames_per_chunk])):
            if pixels is None:
                raise NonFiniteFrame(f"frame {start + offset + 1} of {len(frames)} is not finite ({components.dtype})")
            yield pixels


def _decode_chunk(components: Components, latents: torch.Tensor) -> list[np.ndarray | None]:
    with torch.inference_mode():
        scaled = latents * (1 / components.vae.config.scaling_factor)
        sample = components.vae.decode(scaled, return_dict=False)[0]
        finite = sample.isfinite().flatten(1).all(dim=1).cpu()
        unit = (sample.float() * 0.5 + 0.5).clamp(0, 1)
        pixels = (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return [frame if ok else None for frame, ok in zip(pixels, finite.tolist(), strict=True)]
