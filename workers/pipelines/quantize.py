"""Weights in eight bits: half the memory of the UNet's linear layers, for pixels that are near, not the same.

The weights are rounded to 255 steps per output channel and multiplied as float16. Convolutions stay float16: torchao
has no eight-bit kernel for them. They are 59 % of the UNet.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import I2VGenXLUNet

# What is smaller is not worth a scale of its own.
_LEAST_FEATURES = 16


class QuantizationUnavailable(RuntimeError):
    """torchao is not installed."""


def quantize_linears(unet: I2VGenXLUNet) -> None:
    """Turn the weights of the linear layers of `unet` into int8. Raises QuantizationUnavailable."""
    if sys.modules.get("torchao", ...) is None:
        del sys.modules["torchao"]  # hidden so far: see the package
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise QuantizationUnavailable("plan int8 needs torchao: install reelq[quantize]") from error
    quantize_(unet, Int8WeightOnlyConfig(version=2), filter_fn=_is_worth_it)


def _is_worth_it(module: torch.nn.Module, _name: str) -> bool:
    return isinstance(module, torch.nn.Linear) and min(module.in_features, module.out_features) >= _LEAST_FEATURES
