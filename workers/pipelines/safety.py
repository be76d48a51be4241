"""Stages in a precision that does not overflow: the VAE in float32, the UNet in bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from workers.pipelines.i2vgen_xl import I2VGenXL, Run

SAFE_VAE = torch.float32
SAFE_UNET = torch.bfloat16  # half the mantissa of float16, and the range of float32


def set_unet(model: I2VGenXL, *, safe: bool) -> None:
    """Have the UNet run in `SAFE_UNET`, or as the plan says."""
    model.execution.unet_dtype(SAFE_UNET if safe else None)


def encode(model: I2VGenXL, run: Run) -> None:
    """Encode `run` with the VAE in `SAFE_VAE`."""
    model.execution.vae_dtype(SAFE_VAE)
    try:
        run.encode()
    finally:
        model.execution.vae_dtype(None)


def decode(run: Run, *, safe: bool) -> Iterator[np.ndarray]:
    """The frames; with the VAE in `SAFE_VAE` if `safe`, and then a black frame is taken for one."""
    return run.decode(vae_dtype=SAFE_VAE if safe else None, accept_black=safe)
