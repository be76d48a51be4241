"""The UNet in pieces and the VAE in bands, against the same run whole: any size, any split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from workers.pipelines import chunking, tiling
from workers.pipelines.chunking import pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.pipelines.components import Components
    from workers.pipelines.i2vgen_xl import I2VGenXL


@pytest.fixture
def parts(tiny: I2VGenXL) -> Iterator[Components]:
    yield tiny.execution.components
    chunking.remove(tiny.execution.components.unet)
    tiling.remove(tiny.execution.components.vae)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


@pytest.fixture
def predict(parts: Components) -> Callable[..., torch.Tensor]:
    def run(samples: int, frames: int, height: int, width: int) -> torch.Tensor:
        with torch.inference_mode():
            return parts.unet(
                noise(samples, 4, frames, height, width),
                torch.arange(samples) * 100 + 50,
                fps=torch.full((samples,), 8),
                image_latents=noise(samples, 4, frames, height, width, seed=1),
                image_embeddings=noise(samples, 1, 16, seed=2),
                encoder_hidden_states=noise(samples, 77, 16, seed=3),
                return_dict=False,
            )[0]

    return run


@pytest.mark.parametrize("piece_elements", [1, 500, 5000, 2**24])
@pytest.mark.parametrize(
    "size",
    [(2, 3, 8, 8), (1, 4, 8, 16), (4, 2, 16, 8), (2, 1, 8, 8), (2, 3, 9, 11)],
    ids=["guided", "unguided", "two jobs", "one frame", "odd"],
)
def test_pieces_make_the_whole(
    piece_elements: int, size: tuple[int, int, int, int], parts: Components, predict: Callable[..., torch.Tensor]
) -> None:
    whole = predict(*size)
    chunking.install(parts.unet, piece_elements)
    assert torch.allclose(predict(*size), whole, rtol=1e-4, atol=1e-5)
    chunking.remove(parts.unet)
    assert torch.equal(predict(*size), whole)


@pytest.mark.parametrize("band_elements", [1, 500, 20_000, 2**24])
@pytest.mark.parametrize("size", [(64, 64), (72, 120), (8, 8)])
def test_bands_make_the_whole_picture(band_elements: int, size: tuple[int, int], parts: Components) -> None:
    """No seams: the largest difference is rounding too, everywhere."""
    height, width = size
    picture, latents = noise(1, 3, height, width).clamp(-1, 1), noise(1, 4, height // 8, width // 8)

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            posterior = parts.vae.encode(picture).latent_dist
            return torch.cat([posterior.mean, posterior.std]), parts.vae.decode(latents, return_dict=False)[0]

    encoded, decoded = both()
    tiling.install(parts.vae, band_elements)
    in_bands = both()
    assert torch.allclose(in_bands[0], encoded, atol=1e-5)
    assert torch.allclose(in_bands[1], decoded, atol=1e-5)
    tiling.remove(parts.vae)
    assert torch.equal(both()[1], decoded)


@pytest.mark.parametrize("most", [-1, 0, 1, 3, 7, 100])
def test_pieces_cover_everything_once_and_are_alike(most: int) -> None:
    cut = list(pieces(10, most))
    assert [index for piece in cut for index in range(piece.start, piece.stop)] == list(range(10))
    sizes = [piece.stop - piece.start for piece in cut]
    assert max(sizes) <= max(1, most)
    assert max(sizes) - min(sizes) <= 1
