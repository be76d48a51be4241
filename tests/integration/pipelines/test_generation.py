"""What a video depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from scheduler import catalog
from tests.support.runs import advance, frames
from workers.pipelines import noise
from workers.pipelines.i2vgen_xl import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from workers.pipelines.i2vgen_xl import I2VGenXL
    from workers.pipelines.request import GenerationRequest


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two videos in levels of 0 to 255."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def test_the_same_request_gives_the_same_bytes(generate: Callable[..., np.ndarray]) -> None:
    assert generate().tobytes() == generate().tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 8},
        {"prompt": "a desert at night"},
        {"negative_prompt": "blurry"},
        {"guidance_scale": 1.0},
        {"guidance_scale": 5.0},
        {"target_fps": 24},
        {"num_inference_steps": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_parameter_gives_another_video(changes: dict[str, object], generate: Callable[..., np.ndarray]) -> None:
    assert difference(generate(), generate(**changes)) > 1


def test_another_image_gives_another_video(
    generate: Callable[..., np.ndarray], make_image: Callable[..., Image.Image]
) -> None:
    assert difference(generate(make_image(seed=0)), generate(make_image(seed=1))) > 1


def test_an_image_of_another_mode_is_taken_as_rgb(
    generate: Callable[..., np.ndarray], make_image: Callable[..., Image.Image]
) -> None:
    palette = make_image().quantize(16)
    assert np.array_equal(generate(palette), generate(palette.convert("RGB")))


def test_frames_are_visible_noise_and_differ(generate: Callable[..., np.ndarray]) -> None:
    video = generate(num_frames=4, width=96)
    assert video.shape == (4, 64, 96, 3)
    assert video.dtype == np.uint8
    assert 15 < video.std() < 90
    assert ((video == 0) | (video == 255)).mean() < 0.1
    assert all(difference(video[0], later) > 1 for later in video[1:])


def test_one_frame_alone_works(generate: Callable[..., np.ndarray]) -> None:
    assert generate(num_frames=1).std() > 15


def test_two_runs_under_way_do_not_touch_each_other(
    tiny: I2VGenXL,
    make_request: Callable[..., GenerationRequest],
    make_image: Callable[..., Image.Image],
    generate: Callable[..., np.ndarray],
) -> None:
    short = tiny.prepare(make_request(num_inference_steps=2), make_image())
    long = tiny.prepare(make_request(num_inference_steps=4, seed=3), make_image())
    short.encode()
    long.encode()
    for index in range(4):
        tiny.step([long])
        if index < 2:
            tiny.step([short])
    assert np.array_equal(frames(short), generate(num_inference_steps=2))
    assert np.array_equal(frames(long), generate(num_inference_steps=4, seed=3))


def test_float16_gives_nearly_the_same_video(
    half: I2VGenXL,
    make_request: Callable[..., GenerationRequest],
    make_image: Callable[..., Image.Image],
    generate: Callable[..., np.ndarray],
) -> None:
    """Every stage keeps to the plan's dtype."""
    run = half.prepare(make_request(), make_image())
    run.encode()
    advance(half, run)
    assert run.latents.dtype == torch.float16
    assert difference(frames(run), generate()) < 8
    assert difference(generate(seed=8), generate()) > 20


def test_the_two_noise_streams_of_a_seed_have_nothing_in_common() -> None:
    shape = (1, 4, 8, 8)
    latents, posterior = noise.latents_noise(7, shape), noise.posterior_noise(7, shape)
    assert abs(torch.corrcoef(torch.stack([latents.ravel(), posterior.ravel()]))[0, 1]) < 0.2
    assert torch.equal(latents, torch.randn(shape, generator=torch.Generator("cpu").manual_seed(7)))


@pytest.mark.parametrize("steps", [1000, 1001])
def test_more_steps_than_the_model_has_are_refused_at_once(
    steps: int,
    tiny: I2VGenXL,
    make_request: Callable[..., GenerationRequest],
    make_image: Callable[..., Image.Image],
) -> None:
    with pytest.raises(ValueError, match=r"num_(inference_steps|train_timesteps)"):
        tiny.prepare(make_request(num_inference_steps=steps), make_image())


def test_the_most_steps_a_job_may_ask_for_have_timesteps(
    tiny: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> None:
    most = int(catalog.architecture(catalog.I2VGEN_XL_TINY).limits.num_inference_steps.maximum)
    run = tiny.prepare(make_request(num_inference_steps=most), make_image())
    run.encode()
    advance(tiny, run, to=2)
    run.resume(Snapshot(run.latents, most - 1))
    advance(tiny, run)
