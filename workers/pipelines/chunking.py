"""The UNet in pieces: what treats its samples apart is run on a few of them at a time.

A feed-forward layer makes sixteen times its input, and attention six times. Most of the UNet never looks across frames
(residual blocks, spatial transformers) or never across pixels (temporal transformers), so each such module is run on a
few frames or pixels after each other, feed-forward and attention with it, and only its input and its output are held
whole. Nothing else is computed than before; a matrix product over fewer rows may be summed in another order.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_3d_blocks import CrossAttnUpBlock3D, UpBlock3D
from diffusers.models.upsampling import Upsample2D

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from diffusers import I2VGenXLUNet

PIECE_ELEMENTS = 2**24
"""Elements of the input of one piece: 32 MiB in float16. Large enough to keep a GPU busy, small beside the whole."""


def install(unet: I2VGenXLUNet, piece_elements: int = PIECE_ELEMENTS) -> None:
    """Run `unet` in pieces of about `piece_elements` from now on."""
    for module in unet.modules():
        for kind, forward in _FORWARDS.items():
            if isinstance(module, kind):
                module.forward = partial(forward, module, piece_elements)


def remove(unet: I2VGenXLUNet) -> None:
    """Run `unet` whole again."""
    for module in unet.modules():
        module.__dict__.pop("forward", None)


def pieces(length: int, most: int) -> Iterator[slice]:
    """Cut `length` into slices of nearly the same size, none larger than `most` (or 1)."""
    count = max(1, -(-length // max(1, most)))
    for index in range(count):
        yield slice(length * index // count, length * (index + 1) // count)


def empty_like(piece: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Room for a tensor of `shape`, four numbers, in the order in memory of `piece`: kernels are picked by that."""
    channels_last = piece.is_contiguous(memory_format=torch.channels_last) and not piece.is_contiguous()
    order = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=piece.dtype, device=piece.device, memory_format=order)


class _Filled:
    """A tensor filled piece by piece along its first dimension; the first piece says what it is like."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.whole: torch.Tensor | None = None

    def __setitem__(self, rows: slice, piece: torch.Tensor) -> None:
        if rows == slice(0, self._length):
            self.whole = piece
            return
        if self.whole is None:
            self.whole = empty_like(piece, (self._length, *piece.shape[1:]))
        self.whole[rows] = piece


def _by_frames(
    module: torch.nn.Module,
    piece_elements: int,
    hidden_states: torch.Tensor | tuple[torch.Tensor, ...],
    run: Callable[[torch.Tensor, slice], torch.Tensor],
) -> torch.Tensor:
    """`run` on slices of the frames; several tensors are joined along the channels, each slice by itself."""
    parts = hidden_states if isinstance(hidden_states, tuple) else (hidden_states,)
    frames = parts[0].shape[0]
    filled = _Filled(frames)
    for rows in pieces(frames, piece_elements * frames // _working_elements(module, parts)):
        piece = parts[0][rows] if len(parts) == 1 else torch.cat([part[rows] for part in parts], dim=1)
        filled[rows] = run(piece, rows)
    return filled.whole


def _working_elements(module: torch.nn.Module, parts: tuple[torch.Tensor, ...]) -> int:
    elements: int = sum(part.numel() for part in parts)
    return 4 * elements if isinstance(module, Upsample2D) else elements


def _resnet(
    resnet: ResnetBlock2D,
    piece_elements: int,
    hidden_states: torch.Tensor | tuple[torch.Tensor, ...],
    temb: torch.Tensor,
) -> torch.Tensor:
    forward = type(resnet).forward
    return _by_frames(resnet, piece_elements, hidden_states, lambda piece, rows: forward(resnet, piece, temb[rows]))


def _resample(
    module: Upsample2D | Downsample2D, piece_elements: int, hidden_states: torch.Tensor, *size: Any
) -> torch.Tensor:
    forward = type(module).forward
    return _by_frames(module, piece_elements, hidden_states, lambda piece, _: forward(module, piece, *size))


def _spatial_transformer(
    transformer: Transformer2DModel,
    piece_elements: int,
    hidden_states: torch.Tensor,
    encoder_hidden_states: torch.Tensor,
    **options: Any,
) -> tuple[torch.Tensor]:
    forward = type(transformer).forward

    def run(piece: torch.Tensor, rows: slice) -> torch.Tensor:
        return forward(transformer, piece, encoder_hidden_states=encoder_hidden_states[rows], **options)[0]

    return (_by_frames(transformer, piece_elements, hidden_states, run),)


def _temporal_convolution(
    layer: TemporalConvLayer, _piece_elements: int, hidden_states: torch.Tensor, num_frames: int = 1
) -> torch.Tensor:
    """One video at a time: its normalisation looks at all of it."""
    forward = type(layer).forward
    frames = hidden_states.shape[0]
    filled = _Filled(frames)
    for rows in pieces(frames, num_frames):
        filled[rows] = forward(layer, hidden_states[rows], num_frames)
    return filled.whole


def _temporal_transformer(
    transformer: TransformerTemporalModel,
    piece_elements: int,
    hidden_states: torch.Tensor,
    num_frames: int = 1,
    **_options: Any,
) -> tuple[torch.Tensor]:
    """One video at a time for the normalisation, then a few pixels, each through all frames."""
    output = torch.empty_like(hidden_states, memory_format=torch.contiguous_format)
    for rows in pieces(hidden_states.shape[0], num_frames):
        video = hidden_states[rows]
        normed = transformer.norm(video.transpose(0, 1).unsqueeze(0))
        by_pixel = normed[0].flatten(2).permute(2, 1, 0)  # (pixels, frames, channels)
        target = output[rows].flatten(2).permute(2, 0, 1)
        width = max(by_pixel[0].numel(), num_frames * transformer.proj_in.out_features)
        for pixels in pieces(len(by_pixel), piece_elements // width):
            hidden = transformer.proj_in(by_pixel[pixels].contiguous())
            for block in transformer.transformer_blocks:
                hidden = block(hidden)
            target[pixels] = transformer.proj_out(hidden)
        del normed, by_pixel
        output[rows] += video
    return (output,)


def _up_block(
    block: UpBlock3D | CrossAttnUpBlock3D,
    _piece_elements: int,
    hidden_states: torch.Tensor,
    res_hidden_states_tuple: tuple[torch.Tensor, ...],
    temb: torch.Tensor,
    upsample_size: torch.Size | None = None,
    num_frames: int = 1,
    encoder_hidden_states: torch.Tensor | None = None,
    **_options: Any,
) -> torch.Tensor:
    """As the block itself, but the skip is joined on inside the residual block, a few frames at a time."""
    for layer, skip in enumerate(reversed(res_hidden_states_tuple)):
        hidden_states = block.resnets[layer]((hidden_states, skip), temb)
        hidden_states = block.temp_convs[layer](hidden_states, num_frames=num_frames)
        if isinstance(block, CrossAttnUpBlock3D):
            hidden_states = block.attentions[layer](
                hidden_states, encoder_hidden_states=encoder_hidden_states, return_dict=False
            )[0]
            hidden_states = block.temp_attentions[layer](hidden_states, num_frames=num_frames, return_dict=False)[0]
    for upsampler in block.upsamplers or ():
        hidden_states = upsampler(hidden_states, upsample_size)
    return hidden_states


_FORWARDS: dict[type[torch.nn.Module], Callable[..., Any]] = {
    ResnetBlock2D: _resnet,
    Upsample2D: _resample,
    Downsample2D: _resample,
    Transformer2DModel: _spatial_transformer,
    TemporalConvLayer: _temporal_convolution,
    TransformerTemporalModel: _temporal_transformer,
    UpBlock3D: _up_block,
    CrossAttnUpBlock3D: _up_block,
}
