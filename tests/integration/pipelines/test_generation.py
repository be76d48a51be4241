"""What a video depends on, and that a run may stop and go on anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from scheduler import catalog
from workers.pipelines import noise
from workers.pipelines.decode import NonFiniteFrame, decode
from workers.pipelines.i2vgen_xl import I2VGenXL

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from workers.pipelines.i2vgen_xl import Run
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
    frames = generate(num_frames=4, width=96)
    assert frames.shape == (4, 64, 96, 3)
    assert frames.dtype == np.uint8
    assert 15 < frames.std() < 90
    assert ((frames == 0) | (frames == 255)).mean() < 0.1
    assert all(difference(frames[0], later) > 1 for later in frames[1:])


def test_one_frame_alone_works(generate: Callable[..., np.ndarray]) -> None:
    assert generate(num_frames=1).std() > 15


def test_a_run_continued_from_any_step_is_bit_identical(
    tiny: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> None:
    request, image = make_request(num_inference_steps=6, num_frames=3), make_image()

    def prepared() -> Run:
        run = tiny.prepare(request, image)
        run.encode()
        return run

    whole = prepared()
    saved = [whole.latents.clone()]
    for index in range(whole.steps):
        whole.step(index)
        saved.append(whole.latents.clone())
    expected = np.stack(list(whole.decode()))

    for done in range(whole.steps + 1):
        continued = prepared()
        continued.resume(saved[done])
        for index in range(done, continued.steps):
            continued.step(index)
        assert torch.equal(continued.latents, saved[-1])
        assert np.array_equal(np.stack(list(continued.decode())), expected)


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
        long.step(index)
        if index < 2:
            short.step(index)
    assert np.array_equal(np.stack(list(short.decode())), generate(num_inference_steps=2))
    assert np.array_equal(np.stack(list(long.decode())), generate(num_inference_steps=4, seed=3))


def test_a_run_refuses_what_is_out_of_order_or_not_its_own(
    tiny: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> None:
    run = tiny.prepare(make_request(), make_image())
    with pytest.raises(RuntimeError, match="encode"):
        run.step(0)
    with pytest.raises(ValueError, match=r"shape \(1, 4, 3, 8, 8\)"):
        run.resume(torch.zeros(1, 4, 3, 8, 8))
    with pytest.raises(ValueError, match="float64"):
        run.resume(run.latents.double())
    run.encode()
    with pytest.raises(IndexError):
        run.step(run.steps)


def test_frames_decoded_in_chunks_are_those_decoded_at_once(
    tiny: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> None:
    run = tiny.prepare(make_request(num_frames=5), make_image())
    one_by_one = np.stack(list(run.decode()))
    for frames_per_chunk in (2, 5, 8):
        chunked = np.stack(list(run.decode(frames_per_chunk=frames_per_chunk)))
        assert np.abs(chunked.astype(int) - one_by_one.astype(int)).max() <= 1


def test_a_frame_that_is_not_finite_is_an_error_not_a_black_frame(
    tiny: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., Image.Image]
) -> None:
    latents = tiny.prepare(make_request(num_frames=3), make_image()).latents.clone()
    latents[:, :, 1] = torch.nan
    frames = decode(tiny.components, latents)
    next(frames)
    with pytest.raises(NonFiniteFrame, match="frame 2 of 3"):
        next(frames)


def test_float16_gives_nearly_the_same_video(
    tiny: I2VGenXL,
    make_request: Callable[..., GenerationRequest],
    make_image: Callable[..., Image.Image],
    generate: Callable[..., np.ndarray],
) -> None:
    """The GPU's precision, on the CPU: every stage keeps to the dtype the model was loaded in."""
    half = I2VGenXL.load(tiny.folder, device=torch.device("cpu"), dtype=torch.float16)
    run = half.prepare(make_request(), make_image())
    run.encode()
    for index in range(run.steps):
        run.step(index)
    assert run.latents.dtype == torch.float16
    assert difference(np.stack(list(run.decode())), generate()) < 8
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
    for index in (0, 1, most - 1):
        run.step(index)
    assert torch.isfinite(run.latents).all()
