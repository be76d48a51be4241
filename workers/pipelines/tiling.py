"""The VAE in bands of rows, without seams.

Tiles that are decoded apart differ where they meet, and each has its own contrast, because a group norm looks at
the whole picture. Here a band is only a stretch of one convolution: the norm's statistics are those of the whole
picture, and each band is given the row above it and the one below. Between the convolutions the picture is whole.
What is saved are its normalised and activated copies. The encoder keeps the first: what it makes goes into every
denoising step, so it is normalised by the library itself, to the last bit.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch.nn import functional

from workers.pipelines.chunking import empty_like, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffusers import AutoencoderKL
    from diffusers.models.autoencoders.vae import Decoder

BAND_ELEMENTS = 2**23
"""Elements of one band of a picture: 16 MiB in float16."""

_MOST_QUERIES = 4096
"""Pixels whose attention is computed together, for a kernel that holds all their scores (one head of 512 channels)."""


def install(vae: AutoencoderKL, band_elements: int = BAND_ELEMENTS) -> None:
    """Run `vae` in bands of about `band_elements` from now on. Its blocks then write into their input."""
    for name, module in vae.named_modules():
        if isinstance(module, ResnetBlock2D):
            module.forward = partial(_resnet, module, band_elements, name.startswith("encoder."))
        elif isinstance(module, Upsample2D):
            module.forward = partial(_upsample, module, band_elements)
        elif isinstance(module, Attention):
            module.forward = partial(_attention, module)
    vae.decoder.forward = partial(_decode, vae.decoder)


def remove(vae: AutoencoderKL) -> None:
    """Run `vae` whole again."""
    for module in vae.modules():
        module.__dict__.pop("forward", None)


def _decode(decoder: Decoder, picture: torch.Tensor, *_embeds: object) -> torch.Tensor:
    """As the decoder itself, which holds the input of a whole block until the block is done."""
    picture = decoder.mid_block(decoder.conv_in(picture), None)
    for block in decoder.up_blocks:
        for module in (*block.resnets, *(block.upsamplers or ())):
            picture = module(picture)
    return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(picture)))


def _resnet(
    resnet: ResnetBlock2D,
    band_elements: int,
    norm_whole: bool,
    picture: torch.Tensor,
    *_temb: object,
    **_options: object,
) -> torch.Tensor:
    """`picture` plus its convolutions; written into `picture` itself where the number of channels stays.

    A VAE has no time to embed: what is given for it is None.
    """
    first, second = (
        partial(_norm_act_conv, norm, resnet.nonlinearity, conv, norm_whole, band_elements)
        for norm, conv in ((resnet.norm1, resnet.conv1), (resnet.norm2, resnet.conv2))
    )
    hidden = _joined(first(picture), picture.shape[2])
    bands = second(hidden)  # normalises: before there is an output to hold
    output = picture if resnet.conv_shortcut is None else resnet.conv_shortcut(picture)
    for band, convolved in bands:
        output[:, :, band] += convolved
    return output


def _joined(bands: Iterator[tuple[slice, torch.Tensor]], height: int) -> torch.Tensor:
    """The picture of `height` rows that `bands` make up."""
    band, rows = next(bands)
    picture = empty_like(rows, (*rows.shape[:2], height, rows.shape[3]))
    picture[:, :, band] = rows
    for band, rows in bands:
        picture[:, :, band] = rows
    return picture


def _norm_act_conv(
    norm: torch.nn.GroupNorm,
    nonlinearity: torch.nn.Module,
    conv: torch.nn.Conv2d,
    norm_whole: bool,
    band_elements: int,
    picture: torch.Tensor,
) -> Iterator[tuple[slice, torch.Tensor]]:
    """`picture` normalised, activated and convolved: each band's rows, and what they become."""
    if norm_whole:
        normed = norm(picture)
        normed_bands = ((band, _with_halo(normed, band)) for band in _bands(normed, band_elements))
    else:
        scale, shift = _affine(norm, picture)
        normed_bands = (
            (band, torch.addcmul(shift, _with_halo(picture, band).float(), scale).to(picture.dtype))
            for band in _bands(picture, band_elements)
        )
    return ((band, _conv(conv, nonlinearity(rows), band, picture.shape[2])) for band, rows in normed_bands)


def _affine(norm: torch.nn.GroupNorm, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the norm multiplies `picture` with, and what it adds: float32, (batch, channels, 1, 1).

    The statistics are the library's own, so that a band is normalised as the whole would be.
    """
    batch, channels, height, width = picture.shape
    _, mean, rstd = torch.native_group_norm(
        picture.contiguous(), norm.weight, norm.bias, batch, channels, height * width, norm.num_groups, norm.eps
    )
    each = channels // norm.num_groups
    scale = rstd.float().repeat_interleave(each, dim=1) * norm.weight.float()
    shift = norm.bias.float() - mean.float().repeat_interleave(each, dim=1) * scale
    return scale[:, :, None, None], shift[:, :, None, None]


def _upsample(
    upsampler: Upsample2D, band_elements: int, picture: torch.Tensor, _size: torch.Size | None = None
) -> torch.Tensor:
    """Twice the height and width, each band repeated and convolved by itself."""
    return _joined(_upsampled(upsampler, band_elements, picture), 2 * picture.shape[2])


def _upsampled(
    upsampler: Upsample2D, band_elements: int, picture: torch.Tensor
) -> Iterator[tuple[slice, torch.Tensor]]:
    height = picture.shape[2]
    for band in _bands(picture, band_elements // 4):
        larger = functional.interpolate(_with_halo(picture, band), scale_factor=2.0, mode="nearest")
        # A halo of one row has become two, of which the convolution sees one.
        above, below = int(band.start > 0), int(band.stop < height)
        larger = larger[:, :, above : larger.shape[2] - below]
        rows = slice(2 * band.start, 2 * band.stop)
        yield rows, _conv(upsampler.conv, larger, rows, 2 * height)


def _attention(attention: Attention, picture: torch.Tensor, **_options: object) -> torch.Tensor:
    """The attention of each pixel to all, some pixels at a time."""
    batch, channels, height, width = picture.shape
    pixels = attention.group_norm(picture.flatten(2)).transpose(1, 2)
    query, key, value = (project(pixels).unsqueeze(1) for project in (attention.to_q, attention.to_k, attention.to_v))
    attended = torch.empty_like(query)
    for rows in pieces(height * width, _MOST_QUERIES):
        attended[:, :, rows] = functional.scaled_dot_product_attention(query[:, :, rows], key, value)
    output = attention.to_out[0](attended.squeeze(1))
    output = output.transpose(1, 2).reshape(batch, channels, height, width) + picture
    return output / attention.rescale_output_factor


def _bands(picture: torch.Tensor, band_elements: int) -> Iterator[slice]:
    height = picture.shape[2]
    return pieces(height, band_elements * height // picture.numel())


def _with_halo(picture: torch.Tensor, band: slice) -> torch.Tensor:
    """`band` and one row more on each side, where there is one."""
    return picture[:, :, max(0, band.start - 1) : band.stop + 1]


def _conv(conv: torch.nn.Conv2d, rows: torch.Tensor, band: slice, height: int) -> torch.Tensor:
    """A 3 by 3 convolution of a band with its halo: zeros only where the picture ends."""
    if (band.start, band.stop) == (0, height):
        return conv(rows)
    padded = functional.pad(rows, (0, 0, int(band.start == 0), int(band.stop == height)))
    return functional.conv2d(padded, conv.weight, conv.bias, padding=(0, 1))
