"""The encoder cache: a hit is a miss's bytes, nothing stands in for something else, and it stays within its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.support.runs import advance
from workers import model_folder
from workers.pipelines.embeddings import EmbeddingCache
from workers.pipelines.i2vgen_xl import I2VGenXL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from workers.pipelines.request import GenerationRequest

CPU = torch.device("cpu")


@pytest.fixture
def calls(tiny: I2VGenXL, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which networks ran, in order, with an empty cache to begin with."""
    tiny.embeddings.clear()
    made: list[str] = []
    parts = tiny.execution.components
    for name, model, method in (
        ("text", parts.text_encoder, "forward"),
        ("view", parts.image_encoder, "forward"),
        ("frame", parts.vae, "encode"),
    ):
        original = getattr(model, method)

        def counted(*args: Any, _name: str = name, _original: Any = original, **options: Any) -> Any:
            made.append(_name)
            return _original(*args, **options)

        monkeypatch.setattr(model, method, counted)
    return made


def test_what_was_encoded_before_gives_the_same_latents_and_runs_no_network(
    tiny: I2VGenXL,
    calls: list[str],
    make_request: Callable[..., GenerationRequest],
    make_image: Callable[..., Image.Image],
) -> None:
    latents = []
    for _ in range(2):
        run = tiny.prepare(make_request(), make_image())
        run.encode()
        advance(tiny, run)
        latents.append(run.latents)
    assert calls == ["text", "view", "frame"]
    assert torch.equal(*latents)


@pytest.mark.parametrize(
    ("changes", "image_seed", "again"),
    [
        ({"seed": 8, "num_frames": 3, "target_fps": 24, "num_inference_steps": 3, "guidance_scale": 5.0}, 0, []),
        ({"prompt": "a desert"}, 0, ["text"]),
        ({"negative_prompt": "blurry"}, 0, ["text"]),
        ({"guidance_scale": 1.0}, 0, ["text"]),
        ({"height": 72}, 0, ["frame"]),
        ({"width": 72}, 0, ["view", "frame"]),
        ({}, 1, ["view", "frame"]),
    ],
)
def test_each_network_runs_again_for_what_it_sees_anew(
    changes: dict[str, object],
    image_seed: int,
    again: list[str],
    tiny: I2VGenXL,
    calls: list[str],
    make_request: Callable[..., GenerationRequest],
    make_image: Callable[..., Image.Image],
) -> None:
    tiny.prepare(make_request(), make_image()).encode()
    calls.clear()
    tiny.prepare(make_request(**changes), make_image(seed=image_seed)).encode()
    assert calls == again


def test_prompt_and_negative_prompt_do_not_change_places(
    tiny: I2VGenXL,
    calls: list[str],
    make_request: Callable[..., GenerationRequest],
    make_image: Callable[..., Image.Image],
) -> None:
    for prompt, negative_prompt in (("one", "two"), ("two", "one"), ("one, two", ""), ("one", None)):
        tiny.prepare(make_request(prompt=prompt, negative_prompt=negative_prompt), make_image()).encode()
    assert calls.count("text") == 4


def test_another_plan_or_precision_encodes_for_itself(
    half: I2VGenXL,
    make_request: Callable[..., GenerationRequest],
    make_image: Callable[..., Image.Image],
) -> None:
    half.embeddings.clear()
    sizes = []
    for plan, vae_dtype in (("fp16", None), ("fp16", torch.float32), ("fp16-chunked", None), ("fp16", None)):
        half.use(plan)
        half.execution.vae_dtype(vae_dtype)
        run = half.prepare(make_request(), make_image())
        run.encode()
        assert run.is_sound()
        sizes.append(half.embeddings.bytes)
    assert 0 < sizes[0] < sizes[1] < sizes[2] == sizes[3]


def test_a_run_is_prepared_and_resumed_while_nothing_is_loaded(
    tiny_path: Path, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> None:
    folder = model_folder.inspect(tiny_path)
    model = I2VGenXL.load(folder, device=CPU, plan="fp32")
    latents = []
    for unload_first in (False, True):
        if unload_first:
            model.unload()
        run = model.prepare(make_request(), make_image())
        run.resume(run.snapshot())
        model.use("fp32")
        run.encode()
        advance(model, run)
        latents.append(run.latents)
    assert torch.equal(*latents)


def made(value: float, megabytes: int) -> Callable[[], tuple[torch.Tensor, ...]]:
    return lambda: tuple(torch.full((megabytes, 2**17), sign * value, dtype=torch.float32) for sign in (1, -1))


def never() -> tuple[torch.Tensor, ...]:
    raise AssertionError("it was there")


def test_past_its_limit_the_longest_unused_goes() -> None:
    cache = EmbeddingCache(limit_bytes=3 * 2**20)
    for key in "abc":
        cache.get(key, CPU, made(ord(key), 1))
    assert cache.bytes == 3 * 2**20
    assert cache.get("a", CPU, never)[1][0, 0] == -ord("a")
    cache.get("d", CPU, made(4, 1))
    assert cache.bytes == 3 * 2**20
    for key in "acd":
        cache.get(key, CPU, never)
    with pytest.raises(AssertionError):
        cache.get("b", CPU, never)


def test_what_is_larger_than_the_limit_is_made_and_not_kept() -> None:
    cache = EmbeddingCache(limit_bytes=2**20)
    cache.get("small", CPU, made(1, 1))
    assert cache.get("large", CPU, made(2, 2))[0].shape == (2, 2**17)
    assert cache.bytes == 2**20
    cache.get("small", CPU, never)
    cache.clear()
    assert cache.bytes == 0
    with pytest.raises(AssertionError):
        cache.get("small", CPU, never)


def test_what_failed_to_be_made_is_not_kept() -> None:
    cache = EmbeddingCache()
    with pytest.raises(AssertionError):
        cache.get("a", CPU, never)
    assert cache.get("a", CPU, made(1, 1))[0][0, 0] == 1
