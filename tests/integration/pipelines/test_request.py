"""The limits of a generation request, each named in its error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from workers.pipelines import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.pipelines.i2vgen_xl import I2VGenXL
    from workers.pipelines.request import GenerationRequest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 60),
        ("width", 0),
        ("height", -8),
        ("height", 65),
        ("num_frames", 0),
        ("num_inference_steps", 0),
        ("target_fps", 0),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_a_value_outside_its_limit_is_refused_by_name(
    field: str, value: int, make_request: Callable[..., GenerationRequest]
) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be .*, not {value}$"):
        make_request(**{field: value})


def test_more_steps_than_the_model_has_timesteps_are_refused(
    tiny: I2VGenXL, make_request: Callable[..., GenerationRequest], make_image: Callable[..., object]
) -> None:
    with pytest.raises(ValueError, match="1001"):
        tiny.prepare(make_request(num_inference_steps=1001), make_image())  # type: ignore[arg-type]  # never looked at


def test_the_largest_seed_works_and_only_32_bits_of_it_count() -> None:
    shape = (1, 4, 2, 8, 8)
    assert torch.equal(noise.latents_noise(2**63 - 1, shape), noise.latents_noise(2**32 - 1, shape))
    assert torch.equal(noise.posterior_noise(2**63 - 1, shape), noise.posterior_noise(2**32 - 1, shape))
    assert not torch.equal(noise.latents_noise(2**31, shape), noise.latents_noise(0, shape))
