"""The formulas of `scheduler.work` and the widths of `scheduler.catalog`, counted again on the meta device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from scheduler import catalog, work
from scheduler.shape import Shape
from workers.pipelines import chunking, counting, tiling
from workers.pipelines.counting import Networks
from workers.pipelines.live_bytes import LiveBytes
from workers.pipelines.tiny import make_tiny

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEMAND = catalog.architecture(catalog.I2VGEN_XL).demand
REST_BYTES = 0.1 * DEMAND.fixed_bytes  # conditions, embeddings, and the bands of a picture smaller than one
SHAPES = [
    Shape(512, 512, 16),
    Shape(512, 512, 16, guided=False),
    Shape(1280, 704, 16),
    Shape(264, 328, 3),  # divisible by 8 alone: every level is rounded up
    Shape(1000, 536, 7, guided=False),
    Shape(768, 768, 24),
]


@pytest.fixture(scope="module")
def published() -> Networks:
    return Networks.published()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    path: Path = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny(path)
    return Networks.of(path)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.key)
@pytest.mark.parametrize("size", ["published", "tiny"])
def test_the_formulas_are_exact(size: str, shape: Shape, request: pytest.FixtureRequest) -> None:
    networks: Networks = request.getfixturevalue(size)
    unet, vae = (work.I2VGEN_XL_UNET, work.I2VGEN_XL_VAE) if size == "published" else (work.TINY_UNET, work.TINY_VAE)

    assert counting.flops(lambda: networks.step(shape)) == unet.step_flops(shape)
    assert shape.num_frames * counting.flops(lambda: networks.decode(shape)) == vae.decode_flops(shape)
    assert counting.flops(lambda: networks.encode(shape)) == vae.encode_flops(shape)


def test_the_step_that_others_quote_is_41_9_tflop() -> None:
    assert work.I2VGEN_XL_UNET.step_flops(Shape(512, 512, 16)) == 41_869_922_402_304


@pytest.mark.parametrize("shape", [Shape(768, 768, 24), Shape(512, 320, 8, guided=False)])
def test_the_unets_widest_point_is_the_catalogs(published: Networks, shape: Shape) -> None:
    live = _live(lambda: published.step(shape))

    predicted = 2 * DEMAND.denoise.values(work.step_elements(shape), chunked=False)
    assert 0.98 * predicted < live < predicted + REST_BYTES


@pytest.mark.parametrize("shape", [Shape(256, 256, 8), Shape(512, 512, 16), Shape(768, 768, 24)])
def test_in_pieces_the_unet_stays_within_the_catalogs(published: Networks, shape: Shape) -> None:
    chunking.install(published.unet)
    try:
        live = _live(lambda: published.step(shape))
    finally:
        chunking.remove(published.unet)

    predicted = 2 * DEMAND.denoise.values(work.step_elements(shape), chunked=True) + DEMAND.fixed_bytes
    assert 0.4 * predicted < live < predicted


@pytest.mark.parametrize("shape", [Shape(256, 256, 2), Shape(512, 512, 2), Shape(1280, 704, 2)])
def test_the_vaes_widest_points_are_within_the_catalogs(published: Networks, shape: Shape) -> None:
    pixels = shape.width * shape.height
    widths = [(published.decode, DEMAND.decode), (published.encode, DEMAND.encode)]

    for stage, width in widths:
        assert _live(lambda stage=stage: stage(shape)) <= 2 * width.values(pixels, chunked=False)
    tiling.install(published.vae)
    try:
        for stage, width in widths:
            assert _live(lambda stage=stage: stage(shape)) <= 2 * width.values(pixels, chunked=True) + REST_BYTES
    finally:
        tiling.remove(published.vae)


def test_the_shares_of_the_weights_are_the_networks(published: Networks) -> None:
    weights = catalog.architecture(catalog.I2VGEN_XL).weights
    unet = sum(tensor.numel() for tensor in published.unet.parameters())
    vae = sum(tensor.numel() for tensor in published.vae.parameters())
    linear = sum(each.weight.numel() for each in published.unet.modules() if isinstance(each, torch.nn.Linear))

    assert weights.vae / weights.unet == pytest.approx(vae / unet, rel=0.02)
    assert weights.quantised / weights.unet == pytest.approx(linear / unet, rel=0.01)


def _live(run: Callable[[], object]) -> int:
    with LiveBytes() as live:
        run()
    return live.peak_bytes
