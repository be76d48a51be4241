"""The conditioning in itself: the text layer that is used, the halves, the frame positions, any text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from workers.pipelines.embeddings import EmbeddingCache
from workers.pipelines.encode import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from workers.pipelines.encode import Conditioning
    from workers.pipelines.i2vgen_xl import I2VGenXL
    from workers.pipelines.request import GenerationRequest


@pytest.fixture
def encoded(
    tiny: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> Callable[..., Conditioning]:
    def run(**changes: object) -> Conditioning:
        inputs = tiny.preprocessor.prepare(make_request(**changes), make_image())
        return encode(tiny.execution, inputs, EmbeddingCache(), torch.float32)

    return run


def test_the_prompt_goes_through_all_layers_but_the_last_and_the_final_norm(
    tiny: I2VGenXL, encoded: Callable[..., Conditioning]
) -> None:
    text_encoder = tiny.execution.components.text_encoder
    ids = tiny.execution.components.tokenizer("the sea", padding="max_length", return_tensors="pt").input_ids
    causal = torch.full((77, 77), -torch.inf).triu(1)[None, None]
    with torch.inference_mode():
        hidden = text_encoder.embeddings(input_ids=ids)
        for layer in text_encoder.encoder.layers[:-1]:
            hidden = layer(hidden, causal)
        expected = text_encoder.final_layer_norm(hidden)
    actual = encoded(prompt="the sea", guidance_scale=1.0).prompt_embeds
    assert torch.allclose(actual, expected, atol=1e-5)
    assert actual.std() > 0.1


def test_guidance_puts_the_negative_half_first(encoded: Callable[..., Conditioning]) -> None:
    guided = encoded(prompt="one", negative_prompt="two")
    assert guided.prompt_embeds.shape == (2, 77, 16)
    assert guided.image_embeds.shape == (2, 1, 16)
    assert guided.image_latents.shape == (2, 4, 2, 8, 8)
    assert guided.fps.tolist() == [8, 8]
    swapped = encoded(prompt="two", negative_prompt="one")
    assert torch.equal(guided.prompt_embeds[0], swapped.prompt_embeds[1])
    assert guided.image_embeds[0].abs().max() == 0
    assert guided.image_embeds[1].abs().max() > 0
    assert torch.equal(guided.image_latents[0], guided.image_latents[1])


@pytest.mark.parametrize("guidance_scale", [1.0, 0.0])
def test_without_guidance_there_is_one_half_and_no_negative_prompt(
    guidance_scale: float, encoded: Callable[..., Conditioning]
) -> None:
    plain = encoded(guidance_scale=guidance_scale, negative_prompt="ignored")
    assert plain.fps.shape == (1,)
    assert plain.prompt_embeds.shape[0] == plain.image_embeds.shape[0] == plain.image_latents.shape[0] == 1
    other = encoded(guidance_scale=guidance_scale, negative_prompt=None)
    assert torch.equal(plain.prompt_embeds, other.prompt_embeds)


def test_later_frames_hold_their_position_from_above_0_to_1(encoded: Callable[..., Conditioning]) -> None:
    latents = encoded(num_frames=5, guidance_scale=1.0).image_latents[0]
    assert latents[:, 0].std() > 0.01
    assert [latents[:, frame].unique().tolist() for frame in range(1, 5)] == [[0.25], [0.5], [0.75], [1.0]]


@pytest.mark.parametrize(
    "prompt",
    ["", " ", "a 🐙 in the 海", "مرحبا", "Ünïcödé\u0000\n\t", "<|endoftext|>", "word " * 5000, "漢" * 3000],
    ids=["empty", "space", "emoji", "arabic", "control", "special", "long", "long-cjk"],
)
def test_any_text_is_a_prompt(prompt: str, tiny: I2VGenXL, encoded: Callable[..., Conditioning]) -> None:
    embeds = encoded(prompt=prompt, negative_prompt=prompt).prompt_embeds
    assert embeds.shape == (2, 77, 16)
    assert embeds.isfinite().all()


def test_text_past_77_tokens_is_cut_off(encoded: Callable[..., Conditioning]) -> None:
    long = "sea " * 100
    assert torch.equal(encoded(prompt=long).prompt_embeds, encoded(prompt=long + "desert").prompt_embeds)
    assert not torch.equal(encoded(prompt="sea").prompt_embeds, encoded(prompt="sea desert").prompt_embeds)
