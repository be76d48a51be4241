"""The project's stages against the stock pipeline of diffusers: same latents, prompt and image, same frames.

The stock pipeline is mended only where it is broken: transformers 5 took `text_model` off CLIPTextModel, and
the VAE posterior is sampled with no generator.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.deprecated.i2vgen_xl.pipeline_i2vgen_xl import I2VGenXLPipeline, _center_crop_wide
from PIL import Image

from tests.support.runs import advance
from workers.pipelines import denoise, framing, noise

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from workers.pipelines.i2vgen_xl import I2VGenXL
    from workers.pipelines.request import GenerationRequest

# Largest difference of a latent (they spread about 1) and of a pixel in [0, 1]. They differ at all because both
# prompts are encoded in one batch here, one by one there.
LATENTS_TOLERANCE = 1e-4
PIXEL_TOLERANCE = 1e-4


@pytest.fixture
def stock(tiny: I2VGenXL, monkeypatch: pytest.MonkeyPatch) -> I2VGenXLPipeline:
    parts = tiny.execution.components
    text_model = SimpleNamespace(final_layer_norm=parts.text_encoder.final_layer_norm)
    monkeypatch.setattr(type(parts.text_encoder), "text_model", text_model, raising=False)
    pipeline = I2VGenXLPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        image_encoder=parts.image_encoder,
        feature_extractor=parts.image_processor,
        unet=parts.unet,
        scheduler=denoise.DDIMScheduler.from_config(parts.scheduler.config),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run_stock(
    stock: I2VGenXLPipeline,
    tiny: I2VGenXL,
    request: GenerationRequest,
    image: Image.Image,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[torch.Tensor, np.ndarray]:
    """The last latents, and the frames as float32 (frames, height, width, 3) in [0, 1]."""
    seen: list[torch.Tensor] = []
    decode_latents = I2VGenXLPipeline.decode_latents

    def recording_decode(self: Any, latents: torch.Tensor, **options: Any) -> torch.Tensor:
        seen.append(latents)
        return decode_latents(self, latents, **options)

    def sample(self: Any, generator: object = None) -> torch.Tensor:
        return self.mean + self.std * noise.posterior_noise(request.seed, tuple(self.mean.shape))

    monkeypatch.setattr(I2VGenXLPipeline, "decode_latents", recording_decode)
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", sample)
    output = stock(
        prompt=request.prompt,
        image=image,
        width=request.width,
        height=request.height,
        target_fps=request.target_fps,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        negative_prompt=request.negative_prompt,
        latents=noise.latents_noise(request.seed, denoise.latents_shape(4, request)),
        output_type="np",
    )
    return seen[0], output.frames[0]


@pytest.fixture
def assert_same(
    stock: I2VGenXLPipeline,
    tiny: I2VGenXL,
    make_request: Callable[..., GenerationRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
    """Run both. Latents and float pixels must agree within the tolerances, uint8 pixels within 1."""

    def check(image: Image.Image, **changes: object) -> None:
        request = make_request(**changes)
        run = tiny.prepare(request, image)
        run.encode()
        advance(tiny, run)
        frames = np.stack(list(run.decode()))
        stock_latents, stock_frames = run_stock(stock, tiny, request, image, monkeypatch)
        assert stock_frames.std() > 0.05
        assert (run.latents - stock_latents).abs().max() < LATENTS_TOLERANCE
        assert stock_frames.shape == frames.shape
        assert np.abs(stock_frames - frames / 255.0).max() < 0.5 / 255 + PIXEL_TOLERANCE
        assert np.abs((stock_frames * 255).round().astype(int) - frames.astype(int)).max() <= 1

    return check


@pytest.mark.parametrize(("width", "height"), [(64, 64), (72, 64), (96, 64)])
@pytest.mark.parametrize("guidance_scale", [9.0, 1.0])
def test_frames_equal_the_stock_pipelines(
    width: int,
    height: int,
    guidance_scale: float,
    assert_same: Callable[..., None],
    make_image: Callable[..., Image.Image],
) -> None:
    assert_same(
        make_image(288, 256),
        width=width,
        height=height,
        guidance_scale=guidance_scale,
        num_frames=3,
        num_inference_steps=3,
    )


@pytest.mark.parametrize("size", [(64, 64), (40, 200), (31, 17)])
def test_a_negative_prompt_another_rate_and_other_image_sizes(
    size: tuple[int, int], assert_same: Callable[..., None], make_image: Callable[..., Image.Image]
) -> None:
    assert_same(make_image(*size), negative_prompt="blurry, ugly", target_fps=24, num_inference_steps=5)


IMAGE_SIZES = [(64, 64), (65, 64), (100, 80), (333, 221), (31, 97), (640, 360), (17, 90), (500, 64), (288, 256)]


@pytest.mark.parametrize("frame", [(64, 64), (72, 64), (64, 96), (128, 72)])
def test_framing_is_the_stock_crop_where_that_covers_the_frame(
    frame: tuple[int, int], make_image: Callable[..., Image.Image]
) -> None:
    compared = 0
    for seed, size in enumerate(IMAGE_SIZES):
        scale = min(size[0] / frame[0], size[1] / frame[1])
        if size[0] // scale < frame[0] or size[1] // scale < frame[1]:
            continue  # the stock crop leaves a black edge here
        image = make_image(*size, seed=seed)
        expected = np.asarray(_center_crop_wide(image, frame))
        assert np.array_equal(np.asarray(framing.center_crop(image, *frame)), expected)
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("frame", [(64, 64), (72, 64), (64, 96), (128, 72)])
def test_framing_leaves_no_black_edge(frame: tuple[int, int]) -> None:
    for size in IMAGE_SIZES:
        framed = framing.center_crop(Image.new("RGB", size, "red"), *frame)
        assert framed.getcolors() == [(frame[0] * frame[1], (255, 0, 0))], size


def test_an_elongated_image_is_never_scaled_to_many_times_its_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled_to: list[int] = []
    resize = Image.Image.resize

    def recording_resize(self: Image.Image, size: tuple[int, int], **options: Any) -> Image.Image:
        scaled_to.append(size[0] * size[1])
        return resize(self, size, **options)

    monkeypatch.setattr(Image.Image, "resize", recording_resize)
    for size in [(60_000, 2), (1, 9_000)]:
        assert framing.center_crop(Image.new("RGB", size, "red"), 64, 72).getcolors() == [(64 * 72, (255, 0, 0))]
    assert max(scaled_to) <= 32 * 64 * 72
